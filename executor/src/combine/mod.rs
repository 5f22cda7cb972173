//! Combinators: waiting for several futures or tasks at once.

pub(crate) mod join_set;

mod arrivals;

mod numbered;

pub(crate) mod slab;

pub(crate) mod fairness;

mod gather;

mod wait;

mod as_completed;

mod join;

pub(crate) mod race;

pub use as_completed::as_completed;
#[doc(hidden)]
pub use fairness::Turns;
pub use gather::{gather, try_gather};
#[doc(hidden)]
pub use join::Branch;
pub use join_set::JoinSet;
pub use race::{Either, or, race, race_all};
pub use wait::{Until, Waited, wait, wait_while};
