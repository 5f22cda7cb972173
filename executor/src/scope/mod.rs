//! Structured concurrency and cancellation: task groups, cancel scopes, shielded sections and tokens.

mod group;

mod failure;

mod cancel_scope;

mod cancelled;

mod shielded;

pub(crate) mod scope_node;

mod token;

pub use cancel_scope::{CancelScope, current_effective_deadline};
pub use cancelled::Cancelled;
pub use failure::{Failure, GroupError};
pub use group::TaskGroup;
pub use shielded::shielded;
pub use token::CancellationToken;
