//! Ends a wait from another thread, at the cost of one system call for each wait.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::fork::ForkGuard;

/// Ends the present wait of a selector, or the next one if none is under way.
///
/// However many threads notify, and however often, the selector is woken once for each wait:
/// the first sets a flag and makes the system call, the others see the flag.
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
    /// Set from a notification until the selector has seen it.
    pending: AtomicBool,
    fork: ForkGuard,
    trigger: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl Notifier {
    /// Makes a notifier from the call that makes a selector's wait end.
    ///
    /// For those who write a selector. `trigger` is called at most once until
    /// [`acknowledge`](Notifier::acknowledge) is.
    pub fn from_fn(trigger: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Notifier {
        Notifier {
            shared: Arc::new(Shared {
                pending: AtomicBool::new(false),
                fork: ForkGuard::new(),
                trigger: Box::new(trigger),
            }),
        }
    }

    /// Ends the wait.
    ///
    /// # Errors
    /// What the system says; an error in a forked child, whose notification would otherwise
    /// wake the parent.
    pub fn notify(&self) -> io::Result<()> {
        self.shared.fork.check()?;
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        (self.shared.trigger)().inspect_err(|_| self.shared.pending.store(false, Ordering::Release))
    }

    /// Forgets the notification that a wait has seen; reports whether there was one.
    ///
    /// For those who write a selector: call it after the trigger's traces are gone (the pipe is
    /// drained), never before. In the other order a notification that falls in between would
    /// be drained with its flag left set, and every later one would be taken for a repetition.
    pub fn acknowledge(&self) -> bool {
        // A swap and not a store: it synchronizes with the notifier that set the flag, so what
        // that thread did before is visible to the loop from here on.
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
