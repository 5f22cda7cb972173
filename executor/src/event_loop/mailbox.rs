//! Messages from other threads: each loop has a mailbox, which is found by the loop's number.
//!
//! One atomic word, changed only by read-modify-write operations, holds whether the loop has messages or sleeps:
//!
//! ```text
//!              2 take                     3 park
//!    ┌─────────────────────▶ [ IDLE ] ──────────────▶ [ PARKED ]
//!    │                          │   ▲                     │ │
//! [ UNREAD ] ◀──────────────────┘   └─────────────────────┘ │
//!    ▲        1 send                     4 unpark           │
//!    └──────────────────────────────────────────────────────┘
//!                 1 send, which also notifies
//! ```
//! 1. A sender puts the first message into the empty box and sets UNREAD; if the loop was parked, it
//!    notifies the selector. Later messages find the box non-empty and need do neither.
//! 2. The loop clears the word before it empties the box, so a message that arrives in between is announced again or
//!    taken too, and never missed.
//! 3. Parking fails while there are messages.
//! 4. The wait has ended, for any reason.
//!
//! So there is at most one notification between two sleeps, however many threads send. The notifier, which other users of
//! the selector share, coalesces notifications again.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError};

use polyloop_reactor::{Direction, Notifier, PerProcess, Token, WaiterKey};

use crate::event_loop::wake_list::WakeList;
use crate::sync::{AtomicU8, Mutex, MutexGuard};
use crate::tasks::numbers::LAST_GENERATION;
use crate::time::timer_slots::TimerSlot;

/// A message that requests an action other than waking a task.
pub(crate) enum Command {
    /// Drop a task's future.
    Abort(Token),
    /// Detach a task from its handle.
    Detach(Token),
    /// Unregister a source.
    Release(Token),
    /// Remove a waiter of a source.
    Forget(Token, Direction, WaiterKey),
    /// Cancel a timer whose sleep was dropped.
    CancelTimer(TimerSlot),
    /// Cancel a timer whose sleep was reset on another thread, and wake the task that waits for it.
    MoveTimer(TimerSlot),
    /// Release a hold of virtual time.
    ReleaseTime,
    /// Call this function.
    Run(Box<dyn FnOnce() + Send>),
}

const IDLE: u8 = 0;
const UNREAD: u8 = 1;
const PARKED: u8 = 2;

/// Ends the sleep of a loop. A trait, so that loom models can replace the [`Notifier`], which makes a system call.
pub(crate) trait Notify: Clone {
    fn notify(&self);
}

impl Notify for Notifier {
    fn notify(&self) {
        // It fails in a forked child, whose messages must not wake the parent, and if the system is out of memory: the
        // loop then finds the message in its next turn.
        let _ = Notifier::notify(self);
    }
}

/// The messages for the loop that currently has this number.
pub(crate) struct Mailbox<N = Notifier> {
    state: AtomicU8,
    vacancy: Vacancy,
    contents: Mutex<Contents<N>>,
}

/// The state for the next loop with this number.
///
/// Changed under the lock only. Atomic, because forked children cannot take the lock.
struct Vacancy {
    /// How many loops have had this number.
    loop_generation: AtomicU32,
    /// The first generation of the next loop's tokens, so that it has none in common with the earlier
    /// ones; [`NO_VACANCY`] while a loop has the number, and if none may have it again.
    token_generation: AtomicU32,
}

/// Not a generation: they have 30 bits.
const NO_VACANCY: u32 = u32::MAX;

struct Contents<N> {
    /// `None` while no loop has this number.
    notifier: Option<N>,
    /// The first generation of the loop that has the number, or had it last.
    first_generation: u32,
    wakes: WakeList,
    commands: Vec<Command>,
}

/// Identifies a loop among all loops of the process: its number, and how many loops have had it before.
///
/// One word, so that comparing two is one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address(u64);

impl Address {
    fn new(number: u16, generation: u32) -> Address {
        Address(u64::from(number) << 32 | u64::from(generation))
    }

    pub(crate) fn number(self) -> u16 {
        (self.0 >> 32) as u16
    }

    fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// The result of opening a mailbox.
pub(crate) struct Opened {
    pub(crate) address: Address,
    /// The first generation of its tokens.
    pub(crate) first_generation: u32,
}

impl<N: Notify> Mailbox<N> {
    fn new() -> Mailbox<N> {
        Mailbox::vacant(0, 0)
    }

    fn vacant(loop_generation: u32, token_generation: u32) -> Mailbox<N> {
        Mailbox {
            state: AtomicU8::new(IDLE),
            vacancy: Vacancy {
                loop_generation: AtomicU32::new(loop_generation),
                token_generation: AtomicU32::new(token_generation),
            },
            contents: Mutex::new(Contents {
                notifier: None,
                first_generation: 0,
                wakes: WakeList::new(),
                commands: Vec::new(),
            }),
        }
    }

    /// Makes the box that replaces this one in a forked child, because a thread that the child does not have may hold the
    /// lock.
    ///
    /// A number that was in use is not used again, because the child has copies of tokens with unknown generations.
    fn inherited(&self) -> Mailbox<N> {
        let generation = self.vacancy.token_generation.load(Ordering::Acquire);
        Mailbox::vacant(self.vacancy.loop_generation.load(Ordering::Relaxed), generation)
    }

    /// Opens the box for the next loop with this `number`, unless it is open.
    fn open(&self, number: u16, notifier: &N) -> Option<Opened> {
        let generation = || self.vacancy.token_generation.load(Ordering::Relaxed);
        if generation() == NO_VACANCY {
            return None;
        }
        let mut contents = self.lock();
        // Checked again, because another thread may have been faster.
        let first_generation = Some(generation()).filter(|first| *first != NO_VACANCY)?;
        self.vacancy.token_generation.store(NO_VACANCY, Ordering::Release);
        contents.notifier = Some(notifier.clone());
        contents.first_generation = first_generation;
        let address = Address::new(number, self.loop_generation());
        Some(Opened { address, first_generation })
    }

    fn loop_generation(&self) -> u32 {
        self.vacancy.loop_generation.load(Ordering::Relaxed)
    }

    /// Closes the box, and returns the commands that were not taken.
    fn close(&self, next_generation: u32) -> Vec<Command> {
        let mut contents = self.lock();
        let loop_generation = self.loop_generation().wrapping_add(1);
        self.vacancy.loop_generation.store(loop_generation, Ordering::Relaxed);
        // A number whose generations, of tokens or of loops, are used up is retired.
        let is_spent = next_generation >= LAST_GENERATION || loop_generation == u32::MAX;
        let generation = if is_spent { NO_VACANCY } else { next_generation };
        self.vacancy.token_generation.store(generation, Ordering::Release);
        contents.notifier = None;
        contents.wakes = WakeList::new();
        self.state.swap(IDLE, Ordering::AcqRel);
        mem::take(&mut contents.commands)
    }

    /// Puts the wake of a task into the box.
    fn put_wake(&self, id: Token) {
        self.put(|contents| {
            contents.wakes.put(id);
            true
        });
    }

    /// Puts a command into the box, for any loop or only for the one of this generation. If there is no such loop, drops the
    /// command and returns `false`.
    fn put_command(&self, generation: Option<u32>, command: Command) -> bool {
        let mut command = Some(command);
        self.put(|contents| {
            let accepted = generation.is_none_or(|wanted| wanted == self.loop_generation());
            if accepted {
                contents.commands.extend(command.take());
            }
            accepted
        })
        // A command that was not accepted is dropped here, outside the lock.
    }

    /// Reports whether [`take`](Mailbox::take) would find something. One relaxed load.
    #[inline]
    pub(crate) fn has_messages(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNREAD
    }

    /// Reports whether there are messages, including those of threads that have ended.
    pub(crate) fn has_messages_at_last(&self) -> bool {
        self.state.load(Ordering::Acquire) == UNREAD
    }

    /// Moves all messages to the given lists, which must be empty, and keeps their allocations.
    pub(crate) fn take(&self, wakes: &mut Vec<Token>, commands: &mut Vec<Command>) {
        self.state.swap(IDLE, Ordering::AcqRel);
        let mut contents = self.lock();
        contents.wakes.take(wakes);
        mem::swap(&mut contents.commands, commands);
    }

    /// Announces that the loop is about to sleep. Returns `false` if there are messages: then it must not sleep.
    pub(crate) fn park(&self) -> bool {
        self.state.compare_exchange(IDLE, PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Records that the loop is awake again.
    pub(crate) fn unpark(&self) {
        // Fails, as intended, if messages have arrived.
        let _ = self.state.compare_exchange(PARKED, IDLE, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Puts a message into the box, unless there is no loop to read it.
    fn put(&self, put: impl FnOnce(&mut Contents<N>) -> bool) -> bool {
        let mut contents = self.lock();
        if contents.notifier.is_none() {
            return false;
        }
        let was_empty = contents.wakes.is_empty() && contents.commands.is_empty();
        let accepted = put(&mut contents);
        let mut sleeper = None;
        if accepted && was_empty && self.state.swap(UNREAD, Ordering::AcqRel) == PARKED {
            sleeper.clone_from(&contents.notifier);
        }
        drop(contents);
        if let Some(notifier) = sleeper {
            notifier.notify();
        }
        accepted
    }

    fn lock(&self) -> MutexGuard<'_, Contents<N>> {
        // Nothing panics while the lock is held.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mailboxes of all loops, by number. A box is created once and reused by every loop with its number, so a sender finds
/// it without a lock or a reference count.
struct Mailboxes([OnceLock<Box<Mailbox>>; Token::MAX_OWNER as usize + 1]);

static MAILBOXES: PerProcess<Mailboxes> = PerProcess::new(Mailboxes::new);

impl Mailboxes {
    fn new(inherited: Option<&Mailboxes>) -> Mailboxes {
        let mailboxes = Mailboxes([const { OnceLock::new() }; Token::MAX_OWNER as usize + 1]);
        for (slot, old) in mailboxes.0.iter().zip(inherited.into_iter().flat_map(|old| &old.0)) {
            if let Some(old) = old.get() {
                slot.get_or_init(|| Box::new(old.inherited()));
            }
        }
        mailboxes
    }
}

/// Finds a free number for a loop and opens its mailbox.
///
/// `notifier` ends the loop's sleep. Returns `None` if all numbers are in use or used up. The search takes a load, and
/// mostly a cache miss, per loop that is alive: at most 1,024, which is little beside opening a selector.
pub(crate) fn open(notifier: &Notifier) -> Option<(&'static Mailbox, Opened)> {
    MAILBOXES.get().0.iter().enumerate().find_map(|(number, slot)| {
        let mailbox = &**slot.get_or_init(|| Box::new(Mailbox::new()));
        Some((mailbox, mailbox.open(number as u16, notifier)?))
    })
}

/// Closes a loop's mailbox and frees its number.
///
/// Returns the commands that were not taken, to be dropped or handled outside the lock.
pub(crate) fn close(number: u16, next_generation: u32) -> Vec<Command> {
    find(number).map_or_else(Vec::new, |mailbox| mailbox.close(next_generation))
}

/// Wakes a task of the loop that `id` names, from a thread where that loop does not run.
pub(crate) fn wake(id: Token) {
    if let Some(mailbox) = find(id.owner()) {
        mailbox.put_wake(id);
    }
}

/// Sends a command to the loop that has this number; the token in it determines whether it applies to that loop.
///
/// Dropped if there is no loop, because the task, source or timer has ended with it.
pub(crate) fn send(number: u16, command: Command) {
    if let Some(mailbox) = find(number) {
        mailbox.put_command(None, command);
    }
}

/// Sends a command to one specific loop. If that loop has ended, drops the command and returns `false`.
pub(crate) fn send_to(address: Address, command: Command) -> bool {
    let generation = Some(address.generation());
    find(address.number()).is_some_and(|mailbox| mailbox.put_command(generation, command))
}

/// Reports whether the loop of the task or source `id` is alive.
pub(crate) fn is_open_to(id: Token) -> bool {
    find(id.owner()).is_some_and(|mailbox| {
        let contents = mailbox.lock();
        contents.notifier.is_some() && id.generation() >= contents.first_generation
    })
}

fn find(number: u16) -> Option<&'static Mailbox> {
    MAILBOXES.peek()?.0[usize::from(number)].get().map(|mailbox| &**mailbox)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    use super::*;

    /// Ends a sleep as an eventfd does: the current one, or else the next one.
    #[derive(Clone)]
    struct WakeUp(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

    impl WakeUp {
        fn new() -> WakeUp {
            WakeUp(Arc::new((Mutex::new(false), Condvar::new(), AtomicUsize::new(0))))
        }

        fn wait(&self) {
            let mut is_notified = self.0.0.lock().unwrap();
            while !*is_notified {
                is_notified = self.0.1.wait(is_notified).unwrap();
            }
            *is_notified = false;
        }

        fn n_notifications(&self) -> usize {
            self.0.2.load(Ordering::SeqCst)
        }
    }

    impl Notify for WakeUp {
        fn notify(&self) {
            self.0.2.fetch_add(1, Ordering::SeqCst);
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_one();
        }
    }

    fn open() -> (Arc<Mailbox<WakeUp>>, WakeUp) {
        let (mailbox, wake_up) = (Arc::new(Mailbox::new()), WakeUp::new());
        mailbox.open(0, &wake_up).unwrap();
        (mailbox, wake_up)
    }

    fn token(slot: u32) -> Token {
        Token::new(0, 0, slot)
    }

    /// Runs like the loop: takes messages and sleeps until `n` wakes have arrived. Returns the number of sleeps.
    fn receive(mailbox: &Mailbox<WakeUp>, wake_up: &WakeUp, n: usize) -> usize {
        let (mut wakes, mut commands) = (Vec::new(), Vec::new());
        let (mut n_received, mut n_sleeps) = (0, 0);
        loop {
            if mailbox.has_messages() {
                mailbox.take(&mut wakes, &mut commands);
                n_received += wakes.drain(..).count() + commands.drain(..).count();
            }
            if n_received == n {
                return n_sleeps;
            }
            if mailbox.park() {
                n_sleeps += 1;
                wake_up.wait();
                mailbox.unpark();
            }
        }
    }

    #[test]
    fn loom_a_wake_against_a_park_is_not_lost() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let theirs = Arc::clone(&mailbox);
            let sender = thread::spawn(move || theirs.put_wake(token(1)));
            let n_sleeps = receive(&mailbox, &wake_up, 1);
            sender.join().unwrap();
            assert!(wake_up.n_notifications() <= n_sleeps.max(1));
        });
    }

    #[test]
    fn loom_two_senders_against_a_loop_that_sleeps_lose_nothing() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let senders = [1, 2].map(|slot| {
                let theirs = Arc::clone(&mailbox);
                thread::spawn(move || theirs.put_wake(token(slot)))
            });
            receive(&mailbox, &wake_up, 2);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        });
    }

    #[test]
    fn loom_two_wakes_of_one_sender_arrive_across_two_sleeps() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let theirs = Arc::clone(&mailbox);
            let sender = thread::spawn(move || {
                theirs.put_wake(token(1));
                theirs.put_wake(token(2));
            });
            let n_sleeps = receive(&mailbox, &wake_up, 2);
            sender.join().unwrap();
            assert!(
                wake_up.n_notifications() <= n_sleeps + 1,
                "a sleep needs one notification at most"
            );
        });
    }

    #[test]
    fn loom_a_wait_that_ends_by_itself_does_not_lose_a_wake() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let theirs = Arc::clone(&mailbox);
            let sender = thread::spawn(move || theirs.put_wake(token(1)));
            // A descriptor or a timer ended this sleep, not the notification.
            if mailbox.park() {
                mailbox.unpark();
            }
            receive(&mailbox, &wake_up, 1);
            sender.join().unwrap();
        });
    }

    #[test]
    fn loom_a_command_against_the_end_of_the_loop_is_returned_or_refused() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let theirs = Arc::clone(&mailbox);
            let sender =
                thread::spawn(move || theirs.put_command(Some(0), Command::Detach(token(1))));
            let unread = mailbox.close(1);
            let opened = mailbox.open(0, &wake_up).unwrap();
            assert_eq!((opened.address.generation(), opened.first_generation), (1, 1));
            let accepted = sender.join().unwrap();
            assert_eq!(unread.len(), usize::from(accepted));
            // The next loop with the number does not get it.
            let (mut wakes, mut commands) = (Vec::new(), Vec::new());
            mailbox.take(&mut wakes, &mut commands);
            assert!(wakes.is_empty() && commands.is_empty());
        });
    }

    #[test]
    fn loom_what_was_written_before_a_wake_is_seen_after_it() {
        loom::model(|| {
            let (mailbox, wake_up) = open();
            let theirs = Arc::clone(&mailbox);
            let written = Arc::new(AtomicUsize::new(0));
            let write = Arc::clone(&written);
            let sender = thread::spawn(move || {
                write.store(7, Ordering::Relaxed);
                theirs.put_wake(token(1));
            });
            receive(&mailbox, &wake_up, 1);
            assert_eq!(written.load(Ordering::Relaxed), 7);
            sender.join().unwrap();
        });
    }
}
