//! Sections that no deadline cuts short.

use std::future::poll_fn;
use std::pin::pin;

use super::scope_node::{Hold, enter};

/// Awaits `section`, and lets no cancel scope around it end before `section` has.
///
/// When a scope ([`timeout_with`](crate::timeout_with), [`cancel_scope`](crate::cancel_scope),
/// [`scope`](crate::scope)) comes to its deadline, is cancelled, or has a member fail, it waits for
/// the sections that have begun, and drops the rest only then. Within the section none of those
/// deadlines is seen; scopes that are opened in there have their own.
///
/// - A section has begun when it was polled. One that begins when a scope around it is cancelled
///   already is not waited for, so put into one section what belongs together.
/// - It must be polled to its end, or dropped. One that is set aside half done holds its scopes.
/// - It reaches through `.await`, and into the members of a group and the futures of
///   [`gather`](crate::gather). A task that was spawned belongs to no scope.
/// - It does not help against being dropped: by [`timeout`](crate::timeout),
///   [`race`](crate::race) and a failed [`try_gather`](crate::try_gather), which are no scopes, by an
///   abort, by the end of the loop, or with the scope's own future. A destructor cannot wait. What must outlive even that is a task of its own:
///   [`shield`](crate::shield).
///
/// # Panics
/// If `section` does.
///
/// # Cancel safety
/// That of `section`, which is dropped.
///
/// # References
/// trio's `CancelScope(shield=True)`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::scope::{shielded, timeout_with};
///
/// # polyloop::run(async {
/// let commit = async {
///     sleep(Duration::from_millis(2)).await;
///     "committed"
/// };
/// let outcome = timeout_with(Duration::from_millis(1), async |_| shielded(commit).await).await;
/// assert_eq!(outcome, Ok("committed"));
/// # }).unwrap();
/// ```
pub async fn shielded<F: Future>(section: F) -> F::Output {
    let mut hold = Hold::default();
    let mut section = pin!(section);
    poll_fn(|cx| {
        hold.attach();
        enter(None, || section.as_mut().poll(cx))
    })
    .await
    // The section is dropped before its hold.
}
