//! Stopping virtual time while work runs that the loop does not know of.

use std::fmt;

use crate::event_loop::mailbox::{self, Address, Command};
use crate::raw::current::current;

/// Stops the virtual time of the current runtime until the returned hold is dropped.
///
/// A runtime with [virtual time](crate::Builder::virtual_time) jumps to the next deadline when no task is ready. While a
/// hold exists, it waits for I/O and other threads in real time instead. Use a hold while a thread that the program has
/// started is about to send a message. Blocking work that was spawned on the runtime's thread
/// ([`spawn_blocking`](crate::spawn_blocking), [`BlockingPool::spawn`](crate::BlockingPool::spawn)) and lookups of host
/// names hold the time by themselves.
///
/// Without virtual time, and outside a runtime, a hold has no effect.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{Builder, channel, timeout};
/// use polyloop::time::hold_time;
///
/// let runtime = Builder::new().virtual_time(true).build()?;
/// runtime.block_on(async {
///     let (sender, mut receiver) = channel::unbounded();
///     let hold = hold_time();
///     std::thread::spawn(move || {
///         std::thread::sleep(Duration::from_millis(5));
///         sender.send("computed").unwrap();
///         drop(hold);
///     });
///     // Without the hold, the hour would elapse at once.
///     let message = timeout(Duration::from_secs(3_600), receiver.recv()).await;
///     assert_eq!(message, Ok(Some("computed")));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn hold_time() -> TimeHold {
    let held = current(|event_loop| {
        event_loop.clock().is_virtual().then(|| {
            event_loop.hold_time();
            event_loop.address()
        })
    });
    TimeHold { held: held.flatten() }
}

/// Stops virtual time while it exists. Returned by [`hold_time`].
///
/// It may be dropped on another thread. If that happens after the thread has sent a message to the loop, time passes only
/// after the loop has received the message.
#[must_use = "time passes again as soon as the hold is dropped"]
pub struct TimeHold {
    /// The loop whose time is held.
    held: Option<Address>,
}

impl Drop for TimeHold {
    #[inline]
    fn drop(&mut self) {
        if let Some(address) = self.held {
            release(address);
        }
    }
}

#[cold]
fn release(address: Address) {
    let here = current(|event_loop| {
        let here = event_loop.address() == address;
        if here {
            event_loop.release_time();
        }
        here
    });
    if here != Some(true) {
        mailbox::send_to(address, Command::ReleaseTime);
    }
}

impl fmt::Debug for TimeHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeHold").field("holds", &self.held.is_some()).finish()
    }
}
