//! Many at once: sets, groups, races, and the token that asks them to stop.

mod join_set;

mod numbered;

mod gather;

mod wait;

mod as_completed;

mod join;

mod race;

mod group;

mod cancel;

pub use as_completed::{AsCompleted, as_completed};
pub use cancel::CancellationToken;
pub use gather::{FirstFailure, gather, try_gather};
pub use group::{Failure, GroupError, TaskGroup, scope};
#[doc(hidden)]
pub use join::Branch;
pub use join_set::JoinSet;
pub use race::{Either, FairRace, race};
pub use wait::{Until, Waited, wait, wait_until};
