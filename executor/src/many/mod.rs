//! Many at once: sets, groups, races, and what bounds or protects them.

mod join_set;

mod numbered;

mod slab;

mod turns;

mod gather;

mod wait;

mod as_completed;

mod join;

mod race;

mod group;

mod cancel_scope;

mod shielded;

mod scope_node;

mod shield;

mod cancel;

pub use as_completed::{AsCompleted, as_completed};
pub use cancel::CancellationToken;
pub use cancel_scope::{
    CancelScope, Cancelled, cancel_scope, current_effective_deadline, timeout_with,
};
pub use gather::{FirstFailure, gather, try_gather};
pub use group::{Failure, GroupError, TaskGroup, scope, timeout_scope};
#[doc(hidden)]
pub use join::Branch;
pub use join_set::JoinSet;
pub use race::{Either, FairRace, race};
pub use shield::shield;
pub use shielded::shielded;
#[doc(hidden)]
pub use turns::Turns;
pub use wait::{Until, Waited, wait, wait_until};
