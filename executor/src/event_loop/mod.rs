//! The loop on one screen: who runs next, and when to look at the world.

pub(crate) mod budget;

pub(crate) mod mailbox;

pub(crate) mod wake_list;

pub(crate) mod residents;

pub(crate) mod spin;

pub(crate) mod shuffle;

pub(crate) mod trim;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::hint;
use std::io;
use std::mem;
use std::panic::Location;
use std::task::{Context, Poll};
use std::time::Duration;

use polyloop_reactor::{Collected, Direction, ForkGuard, Reactor, Selector, Token, WaiterKey};

use crate::Handle;
use crate::blocking::BlockingPool;
use crate::event_loop::budget::{OPERATIONS_PER_POLL, RANDOM_SEED, Start, next_random};
use crate::event_loop::mailbox::{Mail, Mailbox};
use crate::event_loop::shuffle::Shuffle;
use crate::event_loop::spin::Spin;
use crate::event_loop::trim::trim;
use crate::inspect::debug::{Debug, Report};
use crate::inspect::notes::Notes;
use crate::raw::waker::{drop_of, id_of, into_id, leave, lend_waker, renounce_own, wake_of};
use crate::runtime::metrics::Metrics;
use crate::runtime::next_turn::NextTurn;
use crate::task::{TaskId, TaskInfo};
use crate::tasks::stage::{TaskBox, quietly};
use crate::tasks::{Callback, Delivery, LeftOver, NOBODY, Next, Stripped, Tasks};
use crate::time::clock::{self, Clock, Stopwatch};
use crate::time::timer_heap::TimerHeap;
use crate::time::timer_slots::TimerSlot;

/// The polls between two looks at descriptors and timers while tasks stay ready.
///
/// A look costs some 300 ns (one system call and one reading of the clock), a poll from 8 ns on,
/// so at 128 the looks take a few ns from each poll. What happens in the world is seen after 128
/// polls at the latest, and whoever waited for it runs after the tasks that are ready by then.
const POLLS_PER_LOOK: u64 = 128;

/// What a sleep counts for when it comes to giving memory back, in looks of a loop that is busy.
const STEPS_PER_SLEEP: u32 = 256;

/// How long a loop sleeps at most while it has memory to give back.
const STEP_AGAIN: Duration = Duration::from_millis(2);

/// How deep what an abort drops may abort in turn before that waits in a list.
///
/// Deep enough that whoever nests by hand never meets it, so that children end before their
/// parents' destructors go on; shallow enough for a stack of 64 KiB.
const SETTLING_MAX: u8 = 16;

/// The timers that fire between two looks at descriptors.
///
/// To fire one takes 50 to 300 ns, so a million that are due at once would keep everything else
/// waiting for a quarter of a second. In 60 µs or less, I/O and the tasks that are ready have
/// their turn; what is due comes in the next look, in order, and a look costs each of 256 timers
/// about a nanosecond.
const TIMERS_PER_LOOK: usize = 256;

/// One loop: its tasks, timers and sources, and the turn that drives them.
///
/// Invariant: no foreign code (a future, a waker, a destructor) runs while one of the `RefCell`s
/// is borrowed, so no borrow ever fails.
pub(crate) struct EventLoop {
    number: u16,
    incarnation: u32,
    pub(crate) mailbox: &'static Mailbox,
    pub(crate) clock: Clock,
    pub(crate) tasks: RefCell<Tasks>,
    pub(crate) timers: RefCell<TimerHeap>,
    pub(crate) reactor: RefCell<Reactor>,
    pub(crate) pool: BlockingPool,
    spin: Spin,
    /// What is watched and told in debug mode.
    debug: Option<Debug>,
    /// The process that the loop belongs to.
    pub(crate) fork: ForkGuard,
    /// The operations that the running task may still complete in this poll.
    budget: Cell<u32>,
    /// The poll in which combinators begin with any branch, by its number: see `combine/turns.rs`.
    pub(crate) mixed_in: Cell<u64>,
    /// What they draw the branch from.
    random: Cell<u32>,
    /// What the running task's futures have left in this poll.
    notes: Cell<Notes>,
    /// The task that runs, or was polled last; nobody while the loop acts for others.
    current_task: Cell<Token>,
    /// Where `block_on` was called, while its future is there.
    main_at: Cell<Option<&'static Location<'static>>>,
    /// What keeps virtual time from passing.
    n_time_holds: Cell<usize>,
    /// Set while a host drives the loop turn by turn.
    is_hosted: Cell<bool>,
    /// Set during a turn for a host.
    is_turning: Cell<bool>,
    /// Set once a host may watch the selector's descriptor.
    is_watched: Cell<bool>,
    /// Set once a handle was made, by which another thread might reach the loop.
    has_handles: Cell<bool>,
    /// The number of polls at which descriptors, timers and letters are looked at again.
    look_at: Cell<u64>,
    n_polls: Cell<u64>,
    /// Counted by whoever makes the calls, through [`note_io`](crate::note_io).
    pub(crate) n_io_calls: Cell<u64>,
    /// Set when the loop is coming down: what is spawned from then on is cancelled at once.
    closing: Cell<bool>,
    /// How many calls of [`settle`](EventLoop::settle) are on the stack.
    settling: Cell<u8>,
    /// What is left to do when the innermost of [`SETTLING_MAX`] such calls is done.
    left_overs: RefCell<VecDeque<(Token, LeftOver)>>,
    /// What the reactor has collected in a turn. Empty between two of them, but for its allocations.
    collected: RefCell<Collected>,
    buffers: RefCell<Buffers>,
}

/// Lists that are filled and emptied in every turn, kept for their allocations.
#[derive(Default)]
struct Buffers {
    wakes: Vec<Token>,
    mail: Vec<Mail>,
}

/// What a loop is made of.
pub(crate) struct Parts {
    pub(crate) selector: Box<dyn Selector>,
    pub(crate) clock: Clock,
    pub(crate) pool: BlockingPool,
    pub(crate) spin: Spin,
    pub(crate) shuffle: Option<Shuffle>,
    pub(crate) debug: Option<Debug>,
}

/// How long the loop may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Up to the next timer; without one, until something happens.
    Unlimited,
    /// Up to the next timer, but no longer than this.
    Limited(Duration),
}

/// Polls the future of `block_on`; true when it is done.
pub(crate) type PollMain<'a> = dyn FnMut(&mut Context<'_>) -> bool + 'a;

/// Announces when it is dropped, so that a panic does not keep a host from hearing.
pub(crate) struct Announce<'a>(pub(crate) &'a EventLoop);

impl Drop for Announce<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.announce();
    }
}

impl EventLoop {
    /// Makes a loop of its parts.
    pub(crate) fn new(parts: Parts) -> io::Result<EventLoop> {
        let Parts { selector, clock, pool, spin, shuffle, debug } = parts;
        let (mailbox, tenancy) = mailbox::open(&selector.notifier()?).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::OutOfMemory,
                "no number is left for another loop: 1,024 loops are alive, or numbers are used up",
            )
        })?;
        let reactor = Reactor::new(selector, tenancy.number, tenancy.first_generation);
        Ok(EventLoop {
            number: tenancy.number,
            incarnation: tenancy.incarnation,
            mailbox,
            clock,
            tasks: RefCell::new(Tasks::new(tenancy.number, tenancy.first_generation, shuffle)),
            timers: RefCell::default(),
            reactor: RefCell::new(reactor),
            pool,
            spin,
            fork: ForkGuard::new(),
            debug,
            budget: Cell::new(OPERATIONS_PER_POLL),
            mixed_in: Cell::new(u64::MAX),
            random: Cell::new(RANDOM_SEED),
            notes: Cell::new(Notes::NONE),
            current_task: Cell::new(NOBODY),
            main_at: Cell::new(None),
            n_time_holds: Cell::new(0),
            is_hosted: Cell::new(false),
            is_turning: Cell::new(false),
            is_watched: Cell::new(false),
            has_handles: Cell::new(false),
            look_at: Cell::new(POLLS_PER_LOOK),
            n_polls: Cell::new(0),
            n_io_calls: Cell::new(0),
            closing: Cell::new(false),
            settling: Cell::new(0),
            left_overs: RefCell::default(),
            collected: RefCell::default(),
            buffers: RefCell::default(),
        })
    }

    /// Gives a new future of `block_on` its number. The loop must be the thread's current one.
    #[inline]
    pub(crate) fn begin_main(&self) -> io::Result<Token> {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.begin_main() {
            Some(id) => Ok(id),
            None => tasks.begin_main_slowly().ok_or_else(no_room),
        }
    }

    /// Notes that there will be a future of `block_on`.
    #[inline]
    pub(crate) fn announce_main(&self, called_at: &'static Location<'static>) {
        self.main_at.set(Some(called_at));
    }

    /// Notes that the future of `block_on` is gone.
    #[inline]
    pub(crate) fn end_main(&self) {
        self.main_at.set(None);
        self.pause();
        if self.is_watched.get() {
            self.rest_hosted();
        }
    }

    /// From now on the selector's descriptor is to be readable whenever a turn would find something.
    ///
    /// # Errors
    /// If there is no timer to be had.
    pub(crate) fn begin_to_announce(&self) -> io::Result<()> {
        self.reactor.borrow_mut().open_timer()?;
        self.is_watched.set(true);
        if !self.is_running() {
            self.rest_hosted();
        }
        Ok(())
    }

    /// Leaves the mailbox asleep, so that letters make the selector's descriptor readable.
    #[cold]
    fn rest_hosted(&self) {
        self.is_hosted.set(true);
        // Fails if mail has come, or if a turn has done it before.
        self.mailbox.park();
        self.announce();
    }

    /// Reports whether `block_on` or a turn of this loop is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.main_at.get().is_some() || self.is_turning.get()
    }

    /// Makes the selector's descriptor readable, for a host that watches it, when a turn is due that the
    /// descriptor does not tell of by itself: now, if tasks are ready, letters came while the loop was
    /// awake, or the last turn left events, whose edge has been taken; later, if there is a timer.
    #[inline]
    pub(crate) fn announce(&self) {
        if self.is_watched.get() && !self.is_running() && !self.fork.is_foreign() {
            self.announce_due();
        }
    }

    /// Has `f` run, and announces what it has left to do even if it panics.
    pub(crate) fn announcing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _announce = Announce(self);
        f()
    }

    #[cold]
    fn announce_due(&self) {
        // Either fails only where the system has no memory for a few bytes; `next_turn` says it as well.
        let _ = match self.next_turn() {
            NextTurn::Now => {
                let notifier = self.reactor.borrow().notifier();
                notifier.and_then(|notifier| notifier.notify())
            }
            NextTurn::At(deadline) => self.reactor.borrow_mut().set_timer(deadline),
            NextTurn::OnEvent => Ok(()),
        };
    }

    /// Reports whether a turn has something to do already.
    fn is_due(&self) -> bool {
        let has_events = || {
            let reactor = self.reactor.borrow();
            reactor.is_unfinished() || reactor.has_more()
        };
        self.tasks.borrow().n_ready() > 0 || self.mailbox.has_mail() || has_events()
    }

    /// Runs until `main` is done, which has been polled once.
    pub(crate) fn run_until(&self, main: &mut PollMain<'_>) -> io::Result<()> {
        while !self.run_once(main)? {}
        Ok(())
    }

    /// Runs one turn for a host that has a loop of its own: waits for up to `timeout`, then polls
    /// tasks until none is ready or `budget` is spent.
    ///
    /// Afterwards the mailbox counts as asleep, so that a letter from another thread makes the
    /// selector's descriptor readable; [`resume`](EventLoop::resume) ends that.
    pub(crate) fn turn(&self, timeout: Option<Duration>, budget: Duration) -> io::Result<NextTurn> {
        /// Leaves the mailbox asleep, however the turn ends.
        struct Park<'a>(&'a EventLoop);

        impl Drop for Park<'_> {
            fn drop(&mut self) {
                self.0.pause();
                self.0.is_turning.set(false);
                // Fails, rightly, if mail has come: then the next turn is due at once.
                self.0.mailbox.park();
                self.0.announce();
            }
        }

        self.resume();
        self.is_hosted.set(true);
        self.is_turning.set(true);
        let park = Park(self);
        if self.mailbox.has_mail() {
            self.read_mail();
        }
        if self.tasks.borrow().n_ready() > 0 {
            self.look_around()?;
        } else {
            self.sleep(timeout.map_or(Patience::Unlimited, Patience::Limited))?;
        }
        // From here on, since the host has asked for the wait.
        let start = Stopwatch::start();
        loop {
            if self.mailbox.has_mail() {
                self.read_mail();
            }
            self.run_ready(&mut |_| false, || start.elapsed() >= budget);
            if self.tasks.borrow().n_ready() == 0 || start.elapsed() >= budget {
                break;
            }
            // What became ready or due meanwhile has its share of the budget.
            self.look(Some(Duration::ZERO))?;
        }
        self.call_more();
        drop(park);
        Ok(self.next_turn())
    }

    /// Wakes more of those who wait for a source that stayed ready, before a host would sleep.
    #[inline(never)]
    fn call_more(&self) {
        if self.reactor.borrow().is_unfinished() {
            self.reactor.borrow_mut().wake_more(&mut self.collected.borrow_mut());
            self.wake_collected();
        }
    }

    /// Ends the sleep in which a turn for a host has left the mailbox.
    #[inline]
    pub(crate) fn resume(&self) {
        if self.is_hosted.get() {
            self.is_hosted.set(false);
            self.mailbox.unpark();
        }
    }

    /// Returns when the next turn is due.
    pub(crate) fn next_turn(&self) -> NextTurn {
        if self.is_due() {
            return NextTurn::Now;
        }
        let timer = self.timers.borrow_mut().next_deadline_ns();
        let timer = timer.filter(|deadline_ns| !self.is_held_before(Some(*deadline_ns)));
        if timer.is_some_and(|ns| self.clock.is_virtual() || ns <= self.clock.now_ns()) {
            // A virtual clock is moved to the deadline by the turn itself.
            return NextTurn::Now;
        }
        let timer = timer.and_then(clock::instant_of);
        let rest = self.reactor.borrow().next_backoff_end();
        let earliest = timer.into_iter().chain(rest).min();
        earliest.map_or(NextTurn::OnEvent, NextTurn::At)
    }

    /// Reports whether time is held, so that it does not come to a deadline that is ahead. One that
    /// has come needs no time to pass.
    fn is_held_before(&self, deadline_ns: Option<u64>) -> bool {
        self.n_time_holds.get() > 0
            && deadline_ns.is_none_or(|deadline_ns| deadline_ns > self.clock.now_ns())
    }

    /// Runs one turn. True when `main` is done.
    fn run_once(&self, main: &mut PollMain<'_>) -> io::Result<bool> {
        // 1. Letters from other threads.
        if self.mailbox.has_mail() {
            self.read_mail();
        }

        // 2. to 4. Descriptors and timers: sleep if nothing is ready, else look now and then.
        if self.tasks.borrow().n_ready() == 0 {
            self.sleep(Patience::Unlimited)?;
        } else if self.n_polls.get() >= self.look_at.get() {
            self.look_around()?;
        }

        // 5. Tasks.
        Ok(self.run_ready(main, || false))
    }

    /// Polls those that are ready, first in first out, as far as the next look, or until `is_spent`
    /// after a poll. True when `main` is done.
    fn run_ready(&self, main: &mut PollMain<'_>, is_spent: impl Fn() -> bool) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        while self.n_polls.get() < self.look_at.get() {
            let Some(next) = tasks.next() else { break };
            self.n_polls.set(self.n_polls.get() + 1);
            match next {
                Next::Stale => {}
                Next::Main(id) => {
                    drop(tasks);
                    if self.poll_main(id, &mut *main) {
                        return true;
                    }
                    tasks = self.tasks.borrow_mut();
                    tasks.note(id, self.notes.get());
                }
                Next::Task(id, mut task) => {
                    drop(tasks);
                    self.begin_poll(id);
                    let mut poll = || {
                        lend_waker(id, |waker| task.as_mut().poll(&mut Context::from_waker(waker)))
                    };
                    let polled = match &self.debug {
                        None => poll(),
                        Some(debug) => self.watch_poll(debug, id, &mut poll),
                    };
                    tasks = self.tasks.borrow_mut();
                    let left_over = match polled {
                        Poll::Pending => tasks.put_back(id, task, self.notes.get()),
                        Poll::Ready(()) => tasks.finish(id, task),
                    };
                    if let Some(left_over) = left_over {
                        drop(tasks);
                        self.settle(id, left_over);
                        tasks = self.tasks.borrow_mut();
                    }
                    if is_spent() {
                        break;
                    }
                }
            }
        }
        false
    }

    /// Polls the future of `block_on`.
    #[inline]
    pub(crate) fn poll_main<R>(&self, id: Token, main: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.begin_poll(id);
        let watch = self.debug.as_ref().map(|debug| (debug, Stopwatch::start()));
        let polled = lend_waker(id, |waker| main(&mut Context::from_waker(waker)));
        if let Some((debug, start)) = watch {
            self.note_poll(debug, id, start.elapsed());
        }
        polled
    }

    /// Keeps what the first poll of the main future has left.
    pub(crate) fn note_main(&self, id: Token) {
        self.tasks.borrow_mut().note_main(id, self.notes.get());
    }

    #[inline]
    fn begin_poll(&self, id: Token) {
        self.current_task.set(id);
        self.budget.set(OPERATIONS_PER_POLL);
        self.notes.set(Notes::NONE);
    }

    /// Times a poll, and reports it if it was slow.
    #[cold]
    fn watch_poll<R>(&self, debug: &Debug, id: Token, poll: impl FnOnce() -> R) -> R {
        let start = Stopwatch::start();
        let polled = poll();
        self.note_poll(debug, id, start.elapsed());
        polled
    }

    /// Notes how long a poll took, and reports it if that was long.
    #[cold]
    fn note_poll(&self, debug: &Debug, id: Token, took: Duration) {
        self.tasks.borrow_mut().add_busy(id, took);
        if took >= debug.slow_poll {
            self.report(id, |task| Report::SlowPoll { task, took });
        }
    }

    /// Tells of a task that misbehaved, outside any borrow, if this is debug mode.
    #[cold]
    fn report(&self, id: Token, report: impl FnOnce(TaskInfo) -> Report) {
        let Some(debug) = &self.debug else { return };
        if let Some(task) = self.describe(TaskId::new(id)) {
            let report = report(task);
            quietly(|| (debug.reporter)(&report));
        }
    }

    /// Reports a panic whose outcome was given to no one.
    #[cold]
    pub(crate) fn report_lost(&self, mut report: Report) {
        let Some(debug) = &self.debug else { return };
        if let Report::LostPanic { task, .. } = &mut report
            && let Some(info) = self.describe(task.id)
        {
            // It was named, or its last poll was timed, after the panic.
            *task = TaskInfo { state: task.state, ..info };
        }
        quietly(|| (debug.reporter)(&report));
    }

    /// Describes a task that has not been freed yet, but for what it waits for.
    pub(crate) fn describe(&self, id: TaskId) -> Option<TaskInfo> {
        self.tasks.borrow().describe(id.token(), self.main_at())
    }

    /// Returns the way back to this loop for what is to be reported, in debug mode.
    #[inline]
    pub(crate) fn debugged(&self) -> Option<Handle> {
        self.debug.as_ref().map(|_| Handle::new(self.number, self.incarnation))
    }

    /// Reports whether `handle` is this loop's.
    pub(crate) fn is_reached_by(&self, handle: Handle) -> bool {
        handle == Handle::new(self.number, self.incarnation)
    }

    /// Does what a poll or an abort has left to do, outside any borrow.
    ///
    /// What is dropped here may own the handle of a task whose future owns another, and so on.
    /// From some depth on, what that leaves to do waits in a list for the innermost call, so that
    /// the stack is never deeper than that, however long the chain is.
    #[inline(never)]
    fn settle(&self, id: Token, left_over: LeftOver) {
        struct Leave<'a>(&'a Cell<u8>);

        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }

        if self.settling.get() == SETTLING_MAX {
            self.left_overs.borrow_mut().push_back((id, left_over));
            return;
        }
        self.settling.set(self.settling.get() + 1);
        let _leave = Leave(&self.settling);
        self.settle_now(id, left_over);
        if self.settling.get() == SETTLING_MAX {
            self.settle_others();
        }
    }

    /// Does what has been put into the list.
    #[cold]
    fn settle_others(&self) {
        loop {
            let next = self.left_overs.borrow_mut().pop_front();
            let Some((id, left_over)) = next else { break };
            self.settle_now(id, left_over);
        }
        *self.left_overs.borrow_mut() = VecDeque::new();
    }

    #[inline]
    fn settle_now(&self, id: Token, left_over: LeftOver) {
        match left_over {
            LeftOver::Unwanted(mut task) => {
                task.as_mut().clear();
                self.free(id, task);
            }
            LeftOver::Aborted(mut task) => {
                task.as_mut().cancel();
                self.finish(id, task);
            }
            LeftOver::Watched(task) => self.show(id, task),
            LeftOver::Delivered(task) => self.make_delivery(id, task),
            LeftOver::Joiner(waker) => wake_of(waker),
        }
    }

    /// Puts back a task that has its outcome, and does what that leaves to do.
    #[inline]
    fn finish(&self, id: Token, task: TaskBox) {
        let left_over = self.tasks.borrow_mut().finish(id, task);
        match left_over {
            None => {}
            Some(LeftOver::Unwanted(mut task)) => {
                // What was cancelled has no output to drop.
                task.as_mut().clear();
                self.free(id, task);
            }
            Some(left_over) => self.settle_finished(id, left_over),
        }
    }

    #[cold]
    fn settle_finished(&self, id: Token, left_over: LeftOver) {
        self.settle_now(id, left_over);
    }

    /// Shows the output of a task to its callbacks, and puts the task back.
    #[cold]
    fn show(&self, id: Token, mut task: TaskBox) {
        loop {
            let callbacks = self.tasks.borrow_mut().take_callbacks(id);
            for callback in callbacks {
                let mut callback = Some(callback);
                task.as_mut().show_output(&mut |output| {
                    if let Some(callback) = callback.take() {
                        callback(output);
                    }
                });
                quietly(|| drop(callback));
            }
            let left_over = self.tasks.borrow_mut().finish(id, task);
            match left_over {
                None => return,
                // A callback has added another.
                Some(LeftOver::Watched(again)) => task = again,
                Some(left_over) => return self.settle_now(id, left_over),
            }
        }
    }

    /// Takes the output of a task to its handle, which was polled elsewhere.
    #[cold]
    fn make_delivery(&self, id: Token, mut task: TaskBox) {
        let delivery = self.tasks.borrow_mut().take_delivery(id);
        if let Some(delivery) = delivery {
            quietly(|| delivery(task.as_mut()));
        }
        self.free(id, task);
    }

    /// Empties the slot of a task that is over and whose box is empty.
    #[inline]
    fn free(&self, id: Token, task: TaskBox) {
        let joiner = self.tasks.borrow_mut().free(id, task);
        drop_of(joiner);
    }

    /// Waits for the world, because nothing is ready.
    fn sleep(&self, patience: Patience) -> io::Result<()> {
        /// Wakes the loop up, however the wait ends: the mailbox of a loop that only seems to
        /// sleep would refuse every later sleep.
        struct Unpark<'a>(&'a Mailbox);

        impl Drop for Unpark<'_> {
            fn drop(&mut self) {
                self.0.unpark();
            }
        }

        let has_more = self.tasks.borrow_mut().tidy(STEPS_PER_SLEEP);
        let deadline_ns = self.timers.borrow_mut().next_deadline_ns();
        // While time is held, a virtual deadline that is ahead is no reason to end a wait.
        let is_held = self.is_held_before(deadline_ns);
        if self.clock.is_virtual() && deadline_ns.is_some() && !is_held {
            return self.skip(deadline_ns);
        }
        let timeout = deadline_ns.filter(|_| !is_held).map(|deadline_ns| {
            Duration::from_nanos(deadline_ns.saturating_sub(self.clock.now_ns()))
        });
        let timeout = match patience {
            Patience::Limited(limit) => Some(timeout.map_or(limit, |timeout| timeout.min(limit))),
            Patience::Unlimited => {
                let may_be_stuck = || timeout.is_none() && !is_held && !self.mailbox.has_mail();
                if self.debug.is_some() && may_be_stuck() {
                    self.check_stuck()?;
                }
                if has_more {
                    // Memory is given back in small steps, so the loop comes back for the next.
                    Some(timeout.map_or(STEP_AGAIN, |timeout| timeout.min(STEP_AGAIN)))
                } else {
                    timeout
                }
            }
        };
        // A host that sets a limit wants to be back by then.
        let may_spin = match patience {
            Patience::Limited(limit) => limit.as_nanos() > self.spin.limit_ns().into(),
            Patience::Unlimited => true,
        };
        if may_spin && self.spin.pays() && self.spin()? || !self.mailbox.park() {
            return Ok(());
        }
        let start_ns = if self.spin.is_on() { self.clock.now_ns() } else { 0 };
        let parked = Unpark(self.mailbox);
        let looked = self.look(timeout);
        drop(parked);
        if self.spin.is_on() {
            self.spin.note_sleep(self.clock.now_ns().saturating_sub(start_ns));
        }
        looked
    }

    /// Looks at the world again and again for a while. True if something has happened.
    #[cold]
    fn spin(&self) -> io::Result<bool> {
        let start_ns = self.clock.now_ns();
        loop {
            self.look(Some(Duration::ZERO))?;
            let paid = self.mailbox.has_mail() || self.tasks.borrow().n_ready() > 0;
            if paid || self.clock.now_ns().saturating_sub(start_ns) >= self.spin.limit_ns() {
                self.spin.note(paid);
                return Ok(paid);
            }
            hint::spin_loop();
        }
    }

    /// Moves a virtual clock to the next deadline, unless a descriptor is ready before.
    fn skip(&self, deadline_ns: Option<u64>) -> io::Result<()> {
        self.look(Some(Duration::ZERO))?;
        if self.tasks.borrow().n_ready() == 0
            && !self.mailbox.has_mail()
            && let Some(deadline_ns) = deadline_ns
        {
            self.clock.advance_to(deadline_ns);
            self.fire_timers();
        }
        Ok(())
    }

    /// Has descriptors and timers checked when the poll that runs is over.
    pub(crate) fn look_soon(&self) {
        self.look_at.set(self.n_polls.get());
    }

    /// Looks at the world between two polls, because tasks stay ready.
    fn look_around(&self) -> io::Result<()> {
        self.tasks.borrow_mut().tidy(1);
        self.look(Some(Duration::ZERO))
    }

    /// Asks the selector, and moves what is ready or due to the ready queue.
    fn look(&self, timeout: Option<Duration>) -> io::Result<()> {
        /// Wakes those who were collected before the selector failed or panicked all the same.
        struct WakeCollected<'a>(&'a EventLoop);

        impl Drop for WakeCollected<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.wake_collected();
            }
        }

        self.look_at.set(self.n_polls.get() + POLLS_PER_LOOK);
        // Letters have a flag of their own, so a loop without sources has nothing to look at.
        // A host's loop may have been woken by the notifier, which only a look makes silent.
        let is_needed = timeout != Some(Duration::ZERO) || self.is_hosted.get();
        if is_needed || self.reactor.borrow().sources() > 0 {
            let wake = WakeCollected(self);
            self.reactor.borrow_mut().turn(timeout, &mut self.collected.borrow_mut())?;
            drop(wake);
        }
        self.fire_timers();
        Ok(())
    }

    /// Wakes those whom the reactor has collected.
    #[inline(always)]
    fn wake_collected(&self) {
        // Our own are queued without a detour; the rest may be foreign.
        let mut collected = self.collected.borrow_mut();
        let mut tasks = self.tasks.borrow_mut();
        collected.retain_wakers(|waker| match id_of(waker) {
            Some(id) if id.owner() == self.number => {
                tasks.wake(id);
                false
            }
            _ => true,
        });
        drop(tasks);
        if !collected.is_empty() {
            let foreign = mem::take(&mut *collected);
            drop(collected);
            self.wake_foreign(foreign);
        }
    }

    #[cold]
    fn wake_foreign(&self, mut foreign: Collected) {
        foreign.wake_all();
        // Empty now, and so is what it replaces.
        *self.collected.borrow_mut() = foreign;
    }

    /// Wakes those whose deadline has come.
    fn fire_timers(&self) {
        let mut timers = self.timers.borrow_mut();
        if timers.next_deadline_ns().is_none() {
            return;
        }
        // One reading for all: a timer that is re-armed with no delay waits for the next turn.
        let now_ns = self.clock.now_ns();
        let mut tasks = self.tasks.borrow_mut();
        for _ in 0..TIMERS_PER_LOOK {
            let Some(waker) = timers.pop_due(now_ns) else { break };
            match into_id(waker, self.number) {
                Ok(id) => {
                    tasks.wake(id);
                }
                Err(waker) => {
                    drop((timers, tasks));
                    wake_of(waker);
                    (timers, tasks) = (self.timers.borrow_mut(), self.tasks.borrow_mut());
                }
            }
        }
    }

    /// Reads all letters that have come.
    #[cold]
    fn read_mail(&self) {
        self.pause();
        if self.fork.is_foreign() {
            // The letters are the parent's, and their lock may have been copied locked.
            return;
        }
        let mut buffers = self.buffers.borrow_mut();
        let (mut wakes, mut mail) = (mem::take(&mut buffers.wakes), mem::take(&mut buffers.mail));
        drop(buffers);
        self.mailbox.take(&mut wakes, &mut mail);
        let (n_wakes, n_mail) = (wakes.len(), mail.len());
        let mut tasks = self.tasks.borrow_mut();
        for id in wakes.drain(..) {
            tasks.wake(id);
        }
        drop(tasks);
        self.heed_all(mail.drain(..));
        trim(&mut wakes, n_wakes);
        trim(&mut mail, n_mail);
        let mut buffers = self.buffers.borrow_mut();
        buffers.wakes = wakes;
        buffers.mail = mail;
    }

    /// Does what letters say. It may drop what is foreign, a socket's owner for example, whose
    /// panic must not cost the letters behind it.
    fn heed_all(&self, mut letters: impl ExactSizeIterator<Item = Mail>) {
        while letters.len() > 0 {
            quietly(|| letters.by_ref().for_each(|letter| self.heed(letter)));
        }
    }

    fn heed(&self, letter: Mail) {
        match letter {
            Mail::Abort(id) => self.abort(id),
            Mail::Detach(id) => drop(self.detach(id)),
            Mail::Release(token) => self.release(token),
            Mail::Forget(token, direction, key) => self.forget(token, direction, key),
            Mail::CancelTimer(slot) => self.cancel_timer(slot),
            Mail::MoveTimer(slot) => self.release_timer(slot),
            Mail::ReleaseTime => self.release_time(),
            Mail::Run(call) => call(),
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Notes that no task is being polled.
    pub(crate) fn pause(&self) {
        self.current_task.set(NOBODY);
    }

    /// Returns the task that is being polled, or was polled last.
    pub(crate) fn current_task(&self) -> Option<TaskId> {
        Some(self.current_task.get()).filter(|id| *id != NOBODY).map(TaskId::new)
    }

    #[inline]
    pub(crate) fn is_current(&self, id: Token) -> bool {
        self.current_task.get() == id
    }

    pub(crate) fn main_at(&self) -> Option<&'static Location<'static>> {
        self.main_at.get()
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.has_handles.get()
    }

    /// Makes a handle, by which other threads reach this loop.
    pub(crate) fn handle(&self) -> Handle {
        self.has_handles.set(true);
        Handle::new(self.number, self.incarnation)
    }

    /// Adds to what the running task's futures have left in this poll.
    #[inline]
    pub(crate) fn note(&self, note: Notes) {
        self.notes.set(self.notes.get() | note);
    }

    /// Says that a task waits for what does not count as work to come.
    pub(crate) fn set_aside(&self, id: Token) {
        self.tasks.borrow_mut().set_aside(id);
    }

    pub(crate) fn set_name(&self, id: Token, name: String) {
        self.tasks.borrow_mut().set_name(id, name);
    }

    /// Leaves a callback to be shown the output of a task, or shows it at once, unless this is
    /// [`SETTLING_MAX`] callbacks deep already.
    pub(crate) fn watch(&self, id: Token, callback: Callback) {
        let mut callback = Some(callback);
        let left_over = self.tasks.borrow_mut().watch(id, &mut callback);
        drop(callback);
        if let Some(left_over) = left_over {
            self.settle(id, left_over);
        }
    }

    /// Leaves what will take the output of a task to a handle that was polled elsewhere, or has it
    /// done at once.
    pub(crate) fn deliver(&self, id: Token, delivery: Delivery) {
        let mut delivery = Some(delivery);
        let left_over = self.tasks.borrow_mut().deliver(id, &mut delivery);
        // If it is still there, there is no such task, and it says so to the handle.
        drop(delivery);
        if let Some(left_over) = left_over {
            self.settle(id, left_over);
        }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let reactor = self.reactor.borrow();
        let calls = reactor.system_calls();
        Metrics {
            n_tasks: self.tasks.borrow().n_tasks(),
            n_timers: self.timers.borrow().n_armed(),
            n_sources: reactor.sources(),
            n_polls: self.n_polls.get(),
            n_waits: calls.waits,
            n_control_calls: calls.controls,
            n_io_calls: self.n_io_calls.get(),
        }
    }

    /// Takes one operation from the budget of the running task; false if it is spent.
    #[inline]
    pub(crate) fn proceed(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        // A host that polls a handle between two turns has no budget to keep.
        left > 0 || self.current_task.get() == NOBODY
    }

    /// Looks at the budget for a combinator that is polled.
    #[inline]
    pub(crate) fn start(&self) -> Start {
        if self.is_plain() {
            Start::Plain
        } else if self.has_budget() {
            Start::Mixed(self.draw())
        } else {
            Start::Spent(self.draw())
        }
    }

    /// Reports whether there is budget, and no combinator makes up for a poll without.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.has_budget() && self.mixed_in.get() != self.n_polls.get()
    }

    /// Draws a number for combinators.
    #[cold]
    pub(crate) fn draw(&self) -> u32 {
        next_random(&self.random)
    }

    pub(crate) fn n_polls(&self) -> u64 {
        self.n_polls.get()
    }

    /// Reports whether the running task may complete another operation.
    #[inline]
    pub(crate) fn has_budget(&self) -> bool {
        self.budget.get() > 0
    }

    #[inline]
    pub(crate) fn wake(&self, id: Token) -> bool {
        self.tasks.borrow_mut().wake(id)
    }

    /// Reports whether the loop is coming down, so that what is spawned is cancelled at once.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Reports whether another task can be spawned.
    pub(crate) fn has_room(&self) -> bool {
        self.tasks.borrow_mut().has_room()
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If there is no room for it. The future has then been dropped, outside any borrow.
    #[inline]
    pub(crate) fn spawn<F>(&self, future: F, spawned_at: &'static Location<'static>) -> Token
    where
        F: Future + 'static,
    {
        let parent = self.current_task.get();
        let mut tasks = self.tasks.borrow_mut();
        let Some(index) = tasks.claim_slot() else {
            drop(tasks);
            refuse(future, spawned_at);
        };
        let id = tasks.insert(index, future, parent, spawned_at);
        drop(tasks);
        if self.closing.get() {
            self.abort(id);
        }
        id
    }

    /// Drops a task's future, now or when its poll is over.
    pub(crate) fn abort(&self, id: Token) {
        let task = self.tasks.borrow_mut().abort(id);
        if let Some(task) = task {
            self.settle(id, LeftOver::Aborted(task));
        }
    }

    /// Notes that nobody will take a task's output. False if there is no such task.
    pub(crate) fn detach(&self, id: Token) -> bool {
        let detached = self.tasks.borrow_mut().detach(id);
        let Some((task, joiner)) = detached else { return false };
        drop_of(joiner);
        if let Some(task) = task {
            self.settle(id, LeftOver::Unwanted(task));
        }
        true
    }

    /// Stops watching a source. If its owner's destructor panics, so does this.
    pub(crate) fn release(&self, token: Token) {
        let released = self.reactor.borrow_mut().release(token);
        drop(released);
    }

    /// Takes back a waiter of a source.
    pub(crate) fn forget(&self, token: Token, direction: Direction, key: WaiterKey) {
        let waker = self.reactor.borrow_mut().forget(token, direction, key);
        drop_of(waker);
    }

    /// Keeps virtual time from passing.
    pub(crate) fn hold_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() + 1);
    }

    /// Takes back a [`hold_time`](EventLoop::hold_time).
    pub(crate) fn release_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() - 1);
    }

    /// Forgets a timer whose sleep is gone.
    #[inline]
    pub(crate) fn cancel_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        drop_of(waker);
    }

    /// Forgets a timer and wakes the task that waits for it, so that this arms a new one.
    fn release_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        if let Some(waker) = waker {
            wake_of(waker);
        }
    }

    /// Cancels all tasks, first spawned first, and closes the mailbox.
    ///
    /// The loop must be the thread's current one, so that destructors reach it.
    pub(crate) fn shut_down(&self) {
        self.closing.set(true);
        // Nothing in it panics: what is foreign is dropped quietly. Yet nothing may keep the mailbox
        // from being closed, or whoever waits for this loop would wait in vain.
        quietly(|| self.clear_out());
        if self.fork.is_foreign() {
            // The number is the parent's, and the child has no letters.
            return;
        }
        let generation = self.reactor.borrow().next_generation();
        let generation = self.tasks.borrow().unused_generation(generation);
        for letter in mailbox::close(self.number, generation) {
            quietly(|| match letter {
                // Too late to run; dropping it tells whoever waits that it was cancelled.
                Mail::Run(call) => drop(call),
                // Its output may have been left already, to a handle that is gone by now.
                Mail::Detach(id) if self.tasks.borrow().has_given(id) => renounce_own(id),
                letter => self.heed(letter),
            });
        }
    }

    /// Cancels all tasks, and drops what the loop holds.
    fn clear_out(&self) {
        self.read_mail();
        let mut next = self.tasks.borrow().find_unfinished(0);
        while let Some(id) = next {
            self.abort(id);
            // A destructor may have spawned into an earlier slot, but such a task is over.
            next = self.tasks.borrow().find_unfinished(id.slot());
        }
        self.strip();
    }

    /// Leaves outputs to the handles that will ask for them, and drops the wakers that nobody
    /// woke, one by one: they are foreign, and may panic or reach for the loop.
    fn strip(&self) {
        let mut next = 0;
        while next < self.tasks.borrow().end() {
            let stripped = self.tasks.borrow_mut().strip(next);
            next += 1;
            let Some(Stripped { id, task, joiner, is_awaited }) = stripped else { continue };
            if let Some(mut task) = task
                && is_awaited
            {
                // Its handle may still ask, after there is a loop that can report it.
                task.as_mut().report_panic();
                if task.as_mut().has_outcome() {
                    leave(id, task);
                }
            }
            drop_of(joiner);
        }
        let mut slot = TimerSlot::FIRST;
        loop {
            let foreign = self.timers.borrow_mut().take_foreign(slot);
            let Some((waker, next)) = foreign else { break };
            slot = next;
            drop_of(Some(waker));
        }
        let mut collected = Collected::default();
        self.reactor.borrow_mut().release_all(&mut collected);
        collected.wake_all();
    }
}

/// Why there is no room for another task.
pub(crate) const NO_ROOM: &str = "a loop holds 16,777,215 tasks, the most there can be";

#[cold]
fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, NO_ROOM)
}

/// Drops the future of a task for which there is no room, and says so to whoever wants to spawn it.
#[cold]
#[track_caller]
pub(crate) fn refuse<F>(future: F, spawned_at: &'static Location<'static>) -> ! {
    quietly(|| drop(future));
    panic!("{NO_ROOM}; the task was to be spawned at {spawned_at}")
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("number", &self.number).finish_non_exhaustive()
    }
}
