//! Sections that cancel scopes wait for.

use super::scope_node::{Hold, enter};
use crate::raw::pair::Pair;

/// Awaits `section`, and keeps the cancel scopes around it from ending before the section has.
///
/// When a [`CancelScope`](crate::CancelScope) or a [`TaskGroup`](crate::TaskGroup) is cancelled, exceeds its deadline
/// or has a member fail, it waits for the sections that have started, and then drops the rest. Within a section the
/// deadlines of the scopes around it have no effect; scopes that are entered there have their own.
///
/// - A section starts at its first poll. One that starts in a scope that was already cancelled is not waited for, so
///   put operations that belong together into one section.
/// - A section that is neither polled to completion nor dropped holds its scopes indefinitely.
/// - A section affects the scopes around it in its task, across `.await`, in members of a group and in the futures of
///   [`gather`](crate::gather). A spawned task is in no scope.
/// - A section does not prevent that it is dropped: by [`timeout`](crate::timeout), [`race`](crate::race) or a
///   failed [`try_gather`](crate::try_gather), which are no scopes, by an abort, by the end of the loop, or together
///   with the future of its scope. Spawn a task for work that has to survive these.
///
/// # Panics
/// Panics if `section` panics.
///
/// # Cancel safety
/// Cancel safe if `section` is: it is dropped.
///
/// # References
/// trio's `CancelScope(shield=True)`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::scope::{CancelScope, shielded};
///
/// # polyloop::run(async {
/// let commit = async {
///     sleep(Duration::from_millis(2)).await;
///     "committed"
/// };
/// let scope = CancelScope::new().timeout(Duration::from_millis(1));
/// assert_eq!(scope.run(async |_| shielded(commit).await).await, Ok("committed"));
/// # }).unwrap();
/// ```
pub fn shielded<F: Future>(section: F) -> impl Future<Output = F::Output> {
    Pair::new(Some(section), (), Hold::default(), |mut section, _, hold, cx| {
        let Some(running) = section.as_mut().as_pin_mut() else {
            panic!("a section was polled after its end")
        };
        hold.attach();
        let polled = enter(None, || running.poll(cx));
        if polled.is_ready() {
            // The section is dropped before its hold.
            section.set(None);
            *hold = Hold::default();
        }
        polled
    })
}
