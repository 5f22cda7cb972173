//! What bounds or protects many at once: groups, cancel scopes, shields and tokens.

mod group;

mod cancel_scope;

mod shielded;

pub(crate) mod scope_node;

mod shield;

mod token;

pub use cancel_scope::{
    CancelScope, Cancelled, cancel_scope, current_effective_deadline, timeout_with,
};
pub use group::{Failure, GroupError, TaskGroup, scope, timeout_scope};
pub use shield::shield;
pub use shielded::shielded;
pub use token::CancellationToken;
