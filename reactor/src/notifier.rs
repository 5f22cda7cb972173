//! [`Notifier`]: ends a wait from another thread, with at most one system call for each wait.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::fork::ForkGuard;

/// Ends a wait of a selector from another thread.
///
/// If the selector is not waiting, its next wait ends at once. Notifications coalesce: the first one sets a
/// flag and makes a system call, and further ones return at once until a wait has seen it.
///
/// A notifier may outlive its selector.
///
/// # Examples
/// ```
/// use polyloop::selectors::{Events, default_selector};
///
/// let mut selector = default_selector()?;
/// let notifier = selector.notifier()?;
/// std::thread::spawn(move || notifier.notify());
///
/// let mut events = Events::with_capacity(8);
/// selector.select(&mut events, None)?;
/// assert!(events.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    /// Set by a notification, until the selector has seen it.
    pending: AtomicBool,
    fork: ForkGuard,
    trigger: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl Notifier {
    /// Creates a notifier from a function that ends a wait.
    ///
    /// For implementations of [`Selector`](crate::Selector). `trigger` is not called again before
    /// [`acknowledge`](Notifier::acknowledge) was called.
    pub fn from_fn(trigger: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Notifier {
        Notifier {
            shared: Arc::new(Shared {
                pending: AtomicBool::new(false),
                fork: ForkGuard::new(),
                trigger: Box::new(trigger),
            }),
        }
    }

    /// Ends the current wait, or the next one if the selector is not waiting.
    ///
    /// # Errors
    /// An error in a forked child, where a notification would wake the parent. Otherwise the error of the
    /// system call, which can fail if the program has closed the descriptor behind it.
    pub fn notify(&self) -> io::Result<()> {
        self.shared.fork.check()?;
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        (self.shared.trigger)().inspect_err(|_| self.shared.pending.store(false, Ordering::Release))
    }

    /// Consumes the notification that a wait has seen. Returns whether there was one.
    ///
    /// For implementations of [`Selector`](crate::Selector). Call it after the effect of the trigger has been
    /// removed (the pipe is drained). In the other order, a notification in between would be drained
    /// with its flag left set, and all later ones would be ignored.
    pub fn acknowledge(&self) -> bool {
        // A swap, not a store: it synchronizes with the thread that set the flag, so what that thread did
        // before is visible from here on.
        self.shared.pending.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.shared.pending.load(Ordering::Relaxed);
        f.debug_struct("Notifier").field("pending", &pending).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counting() -> (Notifier, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let notifier = Notifier::from_fn(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        (notifier, calls)
    }

    #[test]
    fn a_thousand_notifications_trigger_once() {
        let (notifier, calls) = counting();
        for _ in 0..1_000 {
            notifier.notify().unwrap();
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn after_acknowledge_the_next_notification_triggers_again() {
        let (notifier, calls) = counting();
        notifier.notify().unwrap();
        assert!(notifier.acknowledge());
        assert!(!notifier.acknowledge());
        notifier.notify().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_failed_trigger_can_be_tried_again() {
        let notifier = Notifier::from_fn(|| Err(io::Error::from(io::ErrorKind::OutOfMemory)));
        notifier.notify().unwrap_err();
        notifier.notify().unwrap_err();
    }
}
