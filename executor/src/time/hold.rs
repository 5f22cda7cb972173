//! Keeping virtual time from passing while something runs that the loop cannot see.

use std::fmt;

use crate::event_loop::mailbox::{self, Address, Command};
use crate::raw::current::current;

/// Keeps the virtual time of the loop that runs on this thread from passing, until the hold is
/// dropped.
///
/// A loop with [virtual time](crate::Builder::virtual_time) jumps to the next deadline when nothing
/// can run. While a hold exists it waits for I/O and other threads instead, in real time. Blocking
/// work that was spawned on the loop's thread ([`spawn_blocking`](crate::spawn_blocking),
/// [`BlockingPool::spawn`](crate::BlockingPool::spawn)) has a hold of its own until it has ended,
/// whether its handle is kept or not, and so has a lookup of a host name. A loop does not know about
/// threads that the program starts by itself, nor what they will send: there the program decides.
///
/// Where time is real, and on a thread where no loop runs, a hold has no effect.
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
///     // Without the hold, the hour would be over at once.
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

/// Keeps virtual time from passing while it exists. Made by [`hold_time`].
///
/// It may be sent to another thread and dropped there. If it is dropped after a message was sent to
/// the loop, time passes after the message has been received.
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
