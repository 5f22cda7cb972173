//! The event loop: which task runs next, and when to poll for events. Start reading at [`turn`].

mod turn;

mod wait;

mod timers;

pub(crate) mod tasks;

mod commands;

pub(crate) mod host;

mod reports;

mod snapshot;

mod shutdown;

pub(crate) mod mailbox;

pub(crate) mod wake_list;

pub(crate) mod local_loops;

pub(crate) mod budget;

pub(crate) mod spin;

pub(crate) mod shuffle;

pub(crate) mod trim;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;
use std::task::Context;

use polyloop_reactor::{Backend, Collected, ForkGuard, Reactor, Selector, Token};

use crate::blocking::workers::Workers;
use crate::event_loop::budget::{Budget, Start};
use crate::event_loop::mailbox::{Address, Command, Mailbox, Opened};
use crate::event_loop::shuffle::Shuffle;
use crate::event_loop::spin::Spin;
use crate::inspect::debug::Debug;
use crate::inspect::notes::Notes;
use crate::runtime::metrics::Metrics;
use crate::task::id::TaskId;
use crate::tasks::numbers::NO_TASK;
use crate::tasks::{Deferred, Tasks};
use crate::time::clock::Clock;
use crate::time::timer_heap::TimerHeap;

/// The polls between two polls for events while tasks stay ready.
///
/// Polling for events costs about 300 ns (one system call and one reading of the clock) and a task at least 8 ns, so with
/// 128 it adds a few ns to each task. An event is found after at most 128 polls, and the task that waits for it runs after
/// the tasks that are ready then.
const POLLS_PER_EVENT_POLL: u64 = 128;

/// One loop: its tasks, timers and sources, and the turn that drives them.
///
/// Its parts are private to this folder. Other code calls its methods, which end each borrow before they run foreign code.
///
/// Invariant: no foreign code (a future, a waker, a destructor) runs while one of the `RefCell`s
/// is borrowed, so no borrow ever fails.
pub(crate) struct EventLoop {
    number: u16,
    address: Address,
    mailbox: &'static Mailbox,
    clock: Clock,
    tasks: RefCell<Tasks>,
    timers: RefCell<TimerHeap>,
    reactor: RefCell<Reactor>,
    /// The threads for blocking work.
    workers: Workers,
    spin: Spin,
    /// The settings of debug mode, if it is enabled.
    debug: Option<Debug>,
    /// The process that the loop belongs to.
    fork: ForkGuard,
    /// The budget of the running task in this poll.
    budget: Budget,
    /// The notes that the running task's futures have left in this poll.
    notes: Cell<Notes>,
    /// The task that is running, or was polled last; [`NO_TASK`] while no task is polled.
    current_task: Cell<Token>,
    /// The location of the call of `block_on`, while its future exists.
    main_at: Cell<Option<&'static Location<'static>>>,
    /// The number of holds of virtual time.
    n_time_holds: Cell<usize>,
    /// Set while a host drives the loop turn by turn.
    is_hosted: Cell<bool>,
    /// Set during a turn for a host.
    is_turning: Cell<bool>,
    /// Set once a host may watch the selector's descriptor.
    is_watched: Cell<bool>,
    /// Set once a handle was created, through which another thread might reach the loop.
    has_handles: Cell<bool>,
    /// The number of task polls at which descriptors, timers and messages are checked again.
    next_event_poll: Cell<u64>,
    n_polls: Cell<u64>,
    /// Counted by the futures that make the calls, through [`note_io`](crate::note_io).
    n_io_calls: Cell<u64>,
    /// Set when the loop shuts down: tasks that are spawned from then on are cancelled at once.
    is_closing: Cell<bool>,
    /// How many calls of `run_deferred` are on the stack.
    deferred_depth: Cell<u8>,
    /// Deferred work for the innermost of the calls that may nest.
    deferred: RefCell<VecDeque<(Token, Deferred)>>,
    /// The wakers that the reactor has collected in a turn. Empty between turns, except for its allocations.
    collected: RefCell<Collected>,
    buffers: RefCell<Buffers>,
}

/// Lists that are filled and emptied in every turn, kept for their allocations.
#[derive(Default)]
struct Buffers {
    wakes: Vec<Token>,
    commands: Vec<Command>,
}

/// The parts of a new loop.
pub(crate) struct Parts {
    pub(crate) selector: Box<dyn Selector>,
    pub(crate) clock: Clock,
    pub(crate) workers: Workers,
    pub(crate) spin: Spin,
    pub(crate) shuffle: Option<Shuffle>,
    pub(crate) debug: Option<Debug>,
}

/// Polls the future of `block_on`. Returns `true` once it has completed.
pub(crate) type PollMain<'a> = dyn FnMut(&mut Context<'_>) -> bool + 'a;

impl EventLoop {
    /// Creates a loop from its parts.
    pub(crate) fn new(parts: Parts) -> io::Result<EventLoop> {
        let Parts { selector, clock, workers, spin, shuffle, debug } = parts;
        let (mailbox, opened) = mailbox::open(&selector.notifier()?).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::OutOfMemory,
                "no number is left for another loop: 1,024 loops are alive, or numbers are used up",
            )
        })?;
        let Opened { address, first_generation } = opened;
        let number = address.number();
        Ok(EventLoop {
            number,
            address,
            mailbox,
            clock,
            tasks: RefCell::new(Tasks::new(number, first_generation, shuffle)),
            timers: RefCell::default(),
            reactor: RefCell::new(Reactor::new(selector, number, first_generation)),
            workers,
            spin,
            fork: ForkGuard::new(),
            debug,
            budget: Budget::new(),
            notes: Cell::new(Notes::NONE),
            current_task: Cell::new(NO_TASK),
            main_at: Cell::new(None),
            n_time_holds: Cell::new(0),
            is_hosted: Cell::new(false),
            is_turning: Cell::new(false),
            is_watched: Cell::new(false),
            has_handles: Cell::new(false),
            next_event_poll: Cell::new(POLLS_PER_EVENT_POLL),
            n_polls: Cell::new(0),
            n_io_calls: Cell::new(0),
            is_closing: Cell::new(false),
            deferred_depth: Cell::new(0),
            deferred: RefCell::default(),
            collected: RefCell::default(),
            buffers: RefCell::default(),
        })
    }

    #[inline]
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    #[inline]
    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Returns the address for a handle, through which other threads may reach the loop from now on.
    pub(crate) fn share_address(&self) -> Address {
        self.has_handles.set(true);
        self.address
    }

    /// Returns an error in a forked child of the process that the loop belongs to.
    #[inline]
    pub(crate) fn check_fork(&self) -> io::Result<()> {
        self.fork.check()
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    pub(crate) fn backend(&self) -> Backend {
        self.reactor.borrow().backend()
    }

    /// Calls `f` with the reactor. `f` must not run foreign code.
    #[inline]
    pub(crate) fn with_reactor<R>(&self, f: impl FnOnce(&mut Reactor) -> R) -> R {
        f(&mut self.reactor.borrow_mut())
    }

    /// Counts an I/O operation.
    #[inline]
    pub(crate) fn count_io_call(&self) {
        self.n_io_calls.set(self.n_io_calls.get() + 1);
    }

    /// Reports whether `block_on` or a turn of this loop is running.
    pub(crate) fn is_running(&self) -> bool {
        self.main_at.get().is_some() || self.is_turning.get()
    }

    /// Reports whether the loop is shutting down, so that new tasks are cancelled at once.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Records that no task is being polled.
    fn clear_current_task(&self) {
        self.current_task.set(NO_TASK);
    }

    /// Returns the task that is being polled, or was polled last.
    pub(crate) fn current_task(&self) -> Option<TaskId> {
        Some(self.current_task.get()).filter(|id| *id != NO_TASK).map(TaskId::new)
    }

    #[inline]
    pub(crate) fn is_current(&self, id: Token) -> bool {
        self.current_task.get() == id
    }

    /// Adds a note of the running task's futures in this poll.
    #[inline]
    pub(crate) fn note(&self, note: Notes) {
        self.notes.set(self.notes.get() | note);
    }

    /// Takes one operation from the budget of the running task. Returns `false` if it is spent.
    #[inline]
    pub(crate) fn proceed(&self) -> bool {
        // A host that polls a handle between two turns has no budget.
        self.budget.take_one() || self.current_task.get() == NO_TASK
    }

    /// Reports whether the running task may complete another operation.
    #[inline]
    pub(crate) fn has_budget(&self) -> bool {
        self.budget.is_left()
    }

    /// Reports whether there is budget, and combinators start in written order.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.budget.is_plain(self.n_polls.get())
    }

    /// Returns the state of the budget for a combinator.
    #[inline]
    pub(crate) fn start(&self) -> Start {
        self.budget.start(self.n_polls.get())
    }

    /// Returns a random number for combinators.
    pub(crate) fn draw(&self) -> u32 {
        self.budget.draw()
    }

    /// Makes combinators start with a random branch in the current poll. Returns the value that undoes it.
    pub(crate) fn begin_mixing(&self) -> u64 {
        self.budget.mix_in(self.n_polls.get())
    }

    /// Undoes [`begin_mixing`](EventLoop::begin_mixing).
    pub(crate) fn end_mixing(&self, former: u64) {
        self.budget.mix_in(former);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let reactor = self.reactor.borrow();
        let calls = reactor.system_calls();
        Metrics {
            tasks: self.tasks.borrow().n_tasks(),
            timers: self.timers.borrow().n_armed(),
            sources: reactor.sources(),
            polls: self.n_polls.get(),
            waits: calls.waits,
            control_calls: calls.controls,
            io_calls: self.n_io_calls.get(),
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("number", &self.number).finish_non_exhaustive()
    }
}
