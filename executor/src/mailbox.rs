//! How other threads reach a loop: a mailbox for each, found by the loop's number.
//!
//! Whether the loop has mail, or sleeps, is one word, changed only by read-modify-write:
//!
//! ```text
//!              2 take                     3 park
//!    ┌─────────────────────▶ [ IDLE ] ──────────────▶ [ PARKED ]
//!    │                          │   ▲                     │ │
//! [ MAIL ] ◀────────────────────┘   └─────────────────────┘ │
//!    ▲        1 send                     4 unpark           │
//!    └──────────────────────────────────────────────────────┘
//!                 1 send, which also notifies
//! ```
//! 1. A sender puts the first letter into the empty box and sets MAIL; if the loop was parked, it
//!    notifies the selector. Later letters find the box non-empty and need do neither.
//! 2. The loop clears the word before it empties the box, so a letter that arrives in between is
//!    announced again or taken along, never overlooked.
//! 3. Parking fails while there is mail.
//! 4. The wait is over, for whatever reason.
//!
//! Between two sleeps there is thus one notification at most, however many threads send.

use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use polyloop_reactor::{Notifier, Token};

/// A letter to a loop.
pub(crate) enum Mail {
    /// Drop a task's future.
    Abort(Token),
    /// Nobody will take a task's output.
    Detach(Token),
    /// Stop watching a source.
    Release(Token),
    /// Forget a timer.
    CancelTimer(u64),
    /// Do this.
    Run(Box<dyn FnOnce() + Send>),
}

const IDLE: u8 = 0;
const MAIL: u8 = 1;
const PARKED: u8 = 2;

/// The letters for the loop that has this number at present.
pub(crate) struct Mailbox {
    state: AtomicU8,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    /// How many loops have had this number.
    incarnation: u32,
    /// None while no loop has this number.
    notifier: Option<Notifier>,
    wakes: Vec<Token>,
    mail: Vec<Mail>,
    /// The first generation for the next loop with this number, so that tokens of the earlier
    /// ones stay strangers to it.
    next_generation: u32,
}

/// What [`Mailbox::open`] tells a new loop.
pub(crate) struct Tenancy {
    pub(crate) number: u16,
    pub(crate) incarnation: u32,
    pub(crate) first_generation: u32,
}

impl Mailbox {
    const fn new() -> Mailbox {
        Mailbox {
            state: AtomicU8::new(IDLE),
            contents: Mutex::new(Contents {
                incarnation: 0,
                notifier: None,
                wakes: Vec::new(),
                mail: Vec::new(),
                next_generation: 0,
            }),
        }
    }

    /// Reports whether [`take`](Mailbox::take) would find something. One relaxed load.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.state.load(Ordering::Relaxed) == MAIL
    }

    /// Moves all letters to the given lists, which must be empty, and keeps their allocations.
    pub(crate) fn take(&self, wakes: &mut Vec<Token>, mail: &mut Vec<Mail>) {
        self.state.swap(IDLE, Ordering::AcqRel);
        let mut contents = self.lock();
        mem::swap(&mut contents.wakes, wakes);
        mem::swap(&mut contents.mail, mail);
    }

    /// Announces that the loop is about to sleep. False if there is mail: then it must not.
    pub(crate) fn park(&self) -> bool {
        self.state.compare_exchange(IDLE, PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Says that the loop is awake again.
    pub(crate) fn unpark(&self) {
        // Fails, rightly, if mail has come.
        let _ = self.state.compare_exchange(PARKED, IDLE, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Puts something into the box, unless no loop is there to read it.
    fn put(&self, put: impl FnOnce(&mut Contents) -> bool) -> bool {
        let mut contents = self.lock();
        if contents.notifier.is_none() {
            return false;
        }
        let was_empty = contents.wakes.is_empty() && contents.mail.is_empty();
        let accepted = put(&mut contents);
        let mut sleeper = None;
        if accepted && was_empty && self.state.swap(MAIL, Ordering::AcqRel) == PARKED {
            sleeper.clone_from(&contents.notifier);
        }
        drop(contents);
        if let Some(notifier) = sleeper {
            // It fails in a forked child, whose letters must not wake the parent, and where the
            // system has no memory for eight bytes: the loop then finds the letter in its next
            // turn.
            let _ = notifier.notify();
        }
        accepted
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // Nothing panics while the lock is held.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mailboxes of all loops, by number. A box is made once and serves every loop that has its
/// number, so a sender needs neither a lock nor a count to find it.
static MAILBOXES: [OnceLock<Box<Mailbox>>; Token::MAX_OWNER as usize + 1] =
    [const { OnceLock::new() }; Token::MAX_OWNER as usize + 1];

/// Finds a free number for a loop and opens its mailbox.
///
/// `notifier` ends the loop's sleep. None if all numbers are taken: 1,024 loops are alive.
pub(crate) fn open(notifier: &Notifier) -> Option<(&'static Mailbox, Tenancy)> {
    for (number, slot) in MAILBOXES.iter().enumerate() {
        let mailbox = slot.get_or_init(|| Box::new(Mailbox::new()));
        let mut contents = mailbox.lock();
        if contents.notifier.is_some() {
            continue;
        }
        let tenancy = Tenancy {
            number: number as u16,
            incarnation: contents.incarnation,
            first_generation: contents.next_generation,
        };
        contents.notifier = Some(notifier.clone());
        return Some((mailbox, tenancy));
    }
    None
}

/// Closes a loop's mailbox and gives its number back.
///
/// Returns the letters that were not read, to be dropped or heeded outside the lock.
pub(crate) fn close(number: u16, next_generation: u32) -> Vec<Mail> {
    let Some(mailbox) = MAILBOXES[usize::from(number)].get() else { return Vec::new() };
    let mut contents = mailbox.lock();
    let unread = mem::take(&mut contents.mail);
    *contents = Contents {
        incarnation: contents.incarnation.wrapping_add(1),
        next_generation,
        ..Contents::default()
    };
    mailbox.state.swap(IDLE, Ordering::AcqRel);
    unread
}

/// Wakes a task of the loop that `id` names, from a thread where that loop does not run.
pub(crate) fn wake(id: Token) {
    if let Some(mailbox) = MAILBOXES[usize::from(id.owner())].get() {
        mailbox.put(|contents| {
            // The same task woken again and again is one letter.
            if contents.wakes.last() != Some(&id) {
                contents.wakes.push(id);
            }
            true
        });
    }
}

/// Sends a letter to whatever loop has this number; its numbers tell whether it is meant.
///
/// Dropped if there is none: then the task, source or timer is gone as well.
pub(crate) fn send(number: u16, mail: Mail) {
    if let Some(mailbox) = MAILBOXES[usize::from(number)].get() {
        let mut mail = Some(mail);
        mailbox.put(|contents| {
            contents.mail.extend(mail.take());
            true
        });
        // A letter that was not accepted is dropped here, outside the lock.
    }
}

/// Sends a letter to one certain loop. False if that loop has ended; the letter is then dropped.
pub(crate) fn send_to(number: u16, incarnation: u32, mail: Mail) -> bool {
    let Some(mailbox) = MAILBOXES[usize::from(number)].get() else { return false };
    let mut mail = Some(mail);
    mailbox.put(|contents| {
        let accepted = contents.incarnation == incarnation;
        if accepted {
            contents.mail.extend(mail.take());
        }
        accepted
    })
}
