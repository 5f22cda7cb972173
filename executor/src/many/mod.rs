//! Many tasks at once: sets, groups, races, and the token that asks them to stop.

mod join_set;

mod gather;

mod group;

mod race;

mod cancel;

pub use cancel::CancellationToken;
pub use gather::{
    AsCompleted, FirstFailure, Until, Waited, as_completed, gather, try_gather, wait,
};
pub use group::{Failure, GroupError, TaskGroup, scope};
pub use join_set::JoinSet;
pub use race::{Either, FairRace, race};
