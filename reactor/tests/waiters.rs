//! Several tasks that wait for one source: none stays asleep while the source is ready, and the cost of an event
//! does not depend on the number of waiters.
//!
//! The source and its selector are models, so that edges and levels are exact, and a seed determines the order of
//! arrivals, polls, cancellations and turns.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use polyloop_reactor::{
    Backend, Collected, Direction, Event, Events, Interest, Mode, Notifier, Outlook, Reactor,
    Readiness, Registration, Selector, Token, WaiterKey, Watched,
};

const LOOK: Option<Duration> = Some(Duration::ZERO);

/// A queue of items that, like a socket, may be closed, and may have an error that the next operation reports.
#[derive(Debug, Default)]
struct Queue {
    n_items: usize,
    is_closed: bool,
    has_error: bool,
    /// Whether there is urgent data, which no operation here takes.
    is_urgent: bool,
    /// Events since the last report.
    has_news: bool,
    /// Added to the next report, regardless of the state.
    also_reported: Readiness,
    registered: Option<(RawFd, Token, Interest)>,
}

impl Queue {
    fn is_ready(&self) -> bool {
        self.n_items > 0 || self.is_closed || self.has_error
    }

    fn take(&mut self) -> Result<(), io::ErrorKind> {
        if std::mem::take(&mut self.has_error) {
            return Err(io::ErrorKind::ConnectionRefused);
        }
        if self.n_items > 0 {
            self.n_items -= 1;
        } else if !self.is_closed {
            return Err(io::ErrorKind::WouldBlock);
        }
        Ok(())
    }
}

/// Watches one queue.
#[derive(Debug)]
struct Model {
    mode: Mode,
    queue: Arc<Mutex<Queue>>,
}

impl Selector for Model {
    fn backend(&self) -> Backend {
        Backend::Custom("model")
    }

    fn supports(&self, mode: Mode) -> bool {
        mode == self.mode
    }

    fn short_read_is_empty(&self) -> bool {
        true
    }

    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        _mode: Mode,
    ) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let mut queue = self.queue.lock().unwrap();
        queue.has_news = queue.is_ready();
        queue.registered = Some((fd.as_raw_fd(), token, interest));
        Ok(())
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.register(fd, token, interest, mode)
    }

    fn unregister(&mut self, _fd: BorrowedFd<'_>) -> io::Result<()> {
        self.queue.lock().unwrap().registered = None;
        Ok(())
    }

    fn select(&mut self, events: &mut Events, _timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let mut queue = self.queue.lock().unwrap();
        let Some((_, token, interest)) = queue.registered else { return Ok(()) };
        let is_due = match self.mode {
            Mode::Edge => std::mem::take(&mut queue.has_news),
            _ => queue.is_ready() && interest.is_readable(),
        };
        let facts = [
            (queue.n_items > 0 || queue.is_closed, Readiness::READABLE),
            (queue.is_closed, Readiness::READ_CLOSED),
            (queue.has_error, Readiness::ERROR),
            (queue.is_urgent && self.mode == Mode::Edge, Readiness::PRIORITY),
        ];
        let reported = facts.into_iter().filter(|(is_reported, _)| *is_reported);
        let also_reported = std::mem::take(&mut queue.also_reported);
        let readiness = reported.fold(also_reported, |all, (_, fact)| all | fact);
        if is_due && readiness != Readiness::NONE {
            events.push(Event { token, readiness });
        }
        Ok(())
    }

    fn notifier(&self) -> io::Result<Notifier> {
        Ok(Notifier::from_fn(|| Ok(())))
    }

    fn get(&self, _fd: BorrowedFd<'_>) -> Option<Registration> {
        None
    }

    fn registrations(&self) -> Vec<Registration> {
        Vec::new()
    }
}

struct Anything(io::PipeReader);

impl AsFd for Anything {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Anything {
    fn is_latest(&self, _token: Token) -> bool {
        true
    }
}

/// Pushes its number to the ready queue.
struct Bell(usize, Arc<Mutex<VecDeque<usize>>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push_back(self.0);
    }
}

/// A task's operation on the source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Takes one item.
    Take,
    /// Takes one item, and records whether it was the last.
    TakeShort,
    /// Only waits until an operation is worth trying.
    Ready,
    /// Tries, without taking anything.
    Peek,
    /// Is not polled again once it waits, because its owner awaits something else.
    Held,
}

const KINDS: [Kind; 5] = [Kind::Take, Kind::TakeShort, Kind::Ready, Kind::Peek, Kind::Held];

#[derive(Debug)]
struct Task {
    kind: Kind,
    key: Option<WaiterKey>,
}

struct World {
    reactor: Reactor,
    token: Token,
    queue: Arc<Mutex<Queue>>,
    woken: Arc<Mutex<VecDeque<usize>>>,
    collected: Collected,
    tasks: BTreeMap<usize, Task>,
    n_tasks: usize,
    n_wakes: usize,
    n_polls: usize,
    n_tries: usize,
    n_turns: usize,
    served: Vec<usize>,
}

impl World {
    fn new(mode: Mode) -> World {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let model = Model { mode, queue: Arc::clone(&queue) };
        let mut reactor = Reactor::new(Box::new(model), 0, 0);
        let token = reactor.register(Arc::new(Anything(io::pipe().unwrap().0))).unwrap();
        reactor.clear_ready(token, Direction::Read);
        World {
            reactor,
            token,
            queue,
            woken: Arc::default(),
            collected: Collected::default(),
            tasks: BTreeMap::new(),
            n_tasks: 0,
            n_wakes: 0,
            n_polls: 0,
            n_tries: 0,
            n_turns: 0,
            served: Vec::new(),
        }
    }

    fn spawn(&mut self, kind: Kind) -> usize {
        let number = self.n_tasks;
        self.n_tasks += 1;
        self.tasks.insert(number, Task { kind, key: None });
        self.poll(number);
        number
    }

    fn poll(&mut self, number: usize) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        if task.kind == Kind::Held && task.key.is_some() {
            return;
        }
        self.n_polls += 1;
        let token = self.token;
        loop {
            let bell = Bell(number, Arc::clone(&self.woken));
            let mut waker = Some(Waker::from(Arc::new(bell)));
            let read = Direction::Read;
            let outlook = self.reactor.poll_ready(token, read, &mut task.key, &mut waker).unwrap();
            match outlook {
                Outlook::Unknown => unreachable!("the source is registered"),
                Outlook::Blocks => return,
                Outlook::Ready if task.kind == Kind::Ready => break,
                Outlook::Ready => {}
            }
            let mut queue = self.queue.lock().unwrap();
            self.n_tries += 1;
            let tried = match task.kind {
                Kind::Peek if queue.is_ready() => Ok(()),
                _ => queue.take(),
            };
            match tried {
                Err(io::ErrorKind::WouldBlock) => self.reactor.clear_ready(token, read),
                // The event that the task was waiting for: it ends.
                Err(_) => break,
                Ok(()) => {
                    if task.kind == Kind::TakeShort && queue.n_items == 0 {
                        self.reactor.note_short(token, read);
                    }
                    break;
                }
            }
        }
        self.served.push(number);
        self.cancel(number);
    }

    fn cancel(&mut self, number: usize) {
        let Some(task) = self.tasks.remove(&number) else { return };
        if let Some(key) = task.key {
            drop(self.reactor.forget(self.token, Direction::Read, key));
        }
    }

    fn arrive(&mut self, n_items: usize) {
        let mut queue = self.queue.lock().unwrap();
        queue.n_items += n_items;
        queue.has_news = true;
    }

    fn fail(&mut self) {
        let mut queue = self.queue.lock().unwrap();
        queue.has_error = true;
        queue.has_news = true;
    }

    fn urge(&mut self) {
        let mut queue = self.queue.lock().unwrap();
        queue.is_urgent = true;
        queue.has_news = true;
    }

    /// Makes the selector also report `readiness`.
    fn report(&mut self, readiness: Readiness) {
        let mut queue = self.queue.lock().unwrap();
        queue.also_reported = readiness;
        queue.has_news = true;
    }

    fn close(&mut self) {
        let mut queue = self.queue.lock().unwrap();
        queue.is_closed = true;
        queue.has_news = true;
    }

    fn turn(&mut self) {
        self.n_turns += 1;
        self.reactor.turn(LOOK, &mut self.collected).unwrap();
        self.collected.wake_all();
    }

    fn run_one(&mut self) -> bool {
        let next = self.woken.lock().unwrap().pop_front();
        self.n_wakes += usize::from(next.is_some());
        next.map(|number| self.poll(number)).is_some()
    }

    /// Runs like a loop until it would sleep.
    fn settle(&mut self) {
        loop {
            while self.run_one() {}
            self.turn();
            let is_awake = !self.woken.lock().unwrap().is_empty();
            if !is_awake && !self.reactor.is_unfinished() {
                return;
            }
        }
    }

    /// Lists the tasks that wait although the source is ready for them.
    fn stuck(&self) -> Vec<usize> {
        if !self.queue.lock().unwrap().is_ready() {
            return Vec::new();
        }
        let waiting = self.tasks.iter().filter(|(_, task)| task.kind != Kind::Held);
        waiting.map(|(number, _)| *number).collect()
    }
}

#[test]
fn no_waiter_stays_asleep_while_the_source_is_ready() {
    for seed in 0..4_000 {
        let mut rng = Rng::with_seed(seed);
        let mode = if rng.bool() { Mode::Edge } else { Mode::Level };
        let n_kinds = rng.usize(1..=KINDS.len());
        let mut world = World::new(mode);
        for _ in 0..rng.usize(1..120) {
            let some = rng.usize(..world.n_tasks.max(1));
            match rng.u32(..100) {
                0..35 => drop(world.spawn(KINDS[rng.usize(..n_kinds)])),
                35..50 => world.arrive(rng.usize(1..4)),
                50..65 => drop(world.run_one()),
                65..72 => world.poll(some),
                72..82 => world.cancel(some),
                82..92 => world.turn(),
                92..94 => world.fail(),
                94 => world.urge(),
                95..99 => world.settle(),
                _ => world.close(),
            }
            if rng.u32(..8) == 0 {
                world.settle();
                assert_eq!(world.stuck(), [], "seed {seed}, {mode:?}");
            }
        }
        world.settle();
        assert_eq!(world.stuck(), [], "seed {seed}, {mode:?}");
    }
}

#[test]
fn the_cost_of_an_event_does_not_depend_on_the_number_of_waiters() {
    for mode in [Mode::Edge, Mode::Level] {
        let [few, many] = [100, 100_000].map(|n_waiters| {
            let mut world = World::new(mode);
            for _ in 0..n_waiters {
                world.spawn(Kind::Take);
            }
            (world.n_polls, world.n_tries, world.n_turns) = (0, 0, 0);
            for _ in 0..50 {
                world.arrive(1);
                world.settle();
            }
            assert_eq!(world.served, (0..50).collect::<Vec<_>>(), "in order of arrival");
            (world.n_polls, world.n_tries, world.n_turns)
        });
        assert_eq!(few, many, "{mode:?}");
        // One task takes it. The next turn wakes another, which finds that nothing is left.
        assert!(many.0 <= 50 * 3, "{many:?}");
    }
}

/// An ICMP error, for example: the operation that reports it consumes it.
#[test]
fn the_cost_of_an_error_does_not_depend_on_the_number_of_waiters() {
    for mode in [Mode::Edge, Mode::Level] {
        let [few, many] = [100, 100_000].map(|n_waiters| {
            let mut world = World::new(mode);
            for _ in 0..n_waiters {
                world.spawn(Kind::Take);
            }
            (world.n_wakes, world.n_polls, world.n_turns) = (0, 0, 0);
            for _ in 0..50 {
                world.fail();
                world.settle();
            }
            assert_eq!(world.served.len(), 50, "each is reported to one");
            (world.n_wakes, world.n_polls, world.n_turns)
        });
        assert_eq!(few, many, "{mode:?}");
        assert!(many.0 <= 50 * 10 && many.1 <= 50 * 10, "{many:?}");
    }
}

/// Urgent data is read out of line: a normal read neither finds nor reports it.
#[test]
fn the_cost_of_urgent_data_does_not_depend_on_the_number_of_waiters() {
    let [few, many] = [100, 100_000].map(|n_waiters| {
        let mut world = World::new(Mode::Edge);
        for _ in 0..n_waiters {
            world.spawn(Kind::Take);
        }
        (world.n_wakes, world.n_polls, world.n_turns) = (0, 0, 0);
        for _ in 0..50 {
            world.urge();
            world.settle();
        }
        assert_eq!(world.served, []);
        (world.n_wakes, world.n_polls, world.n_turns)
    });
    assert_eq!(few, many);
    assert!(many.0 <= 50 * 10 && many.1 <= 50 * 10, "{many:?}");
}

/// A datagram socket that was shut down for reading: it counts as closed and still blocks.
#[test]
fn a_closed_side_that_blocks_costs_each_waiter_one_wake() {
    const N_WAITERS: usize = 10_000;
    let mut world = World::new(Mode::Edge);
    for _ in 0..N_WAITERS {
        world.spawn(Kind::Peek);
    }
    (world.n_wakes, world.n_polls) = (0, 0);
    for _ in 0..50 {
        world.report(Readiness::READ_CLOSED);
        world.settle();
    }
    assert!(world.n_wakes <= N_WAITERS + 50 * 10, "{} wakes", world.n_wakes);
}

#[test]
fn a_burst_is_distributed_in_few_turns() {
    for mode in [Mode::Edge, Mode::Level] {
        let mut world = World::new(mode);
        for _ in 0..100_000 {
            world.spawn(Kind::Take);
        }
        (world.n_polls, world.n_turns) = (0, 0);
        world.arrive(1_000);
        world.settle();
        assert_eq!(world.served, (0..1_000).collect::<Vec<_>>());
        assert!(world.n_polls <= 2_100, "{} polls", world.n_polls);
        assert!(world.n_turns <= 16, "{} turns", world.n_turns);
    }
}

#[test]
fn the_end_of_the_stream_wakes_all_waiters() {
    for mode in [Mode::Edge, Mode::Level] {
        let mut world = World::new(mode);
        for _ in 0..1_000 {
            world.spawn(Kind::Take);
        }
        world.close();
        world.turn();
        while world.run_one() {}
        assert_eq!(world.served.len(), 1_000, "in one turn");
    }
}

#[test]
fn a_waiter_that_is_woken_and_dropped_passes_the_event_on() {
    for mode in [Mode::Edge, Mode::Level] {
        let mut world = World::new(mode);
        let tasks = [0, 1, 2].map(|_| world.spawn(Kind::TakeShort));
        world.arrive(1);
        world.turn();
        world.cancel(tasks[0]);
        world.settle();
        assert_eq!(world.served, [tasks[1]]);
    }
}

#[test]
fn a_waiter_that_is_woken_and_not_polled_delays_no_other() {
    for mode in [Mode::Edge, Mode::Level] {
        let mut world = World::new(mode);
        for _ in 0..10 {
            world.spawn(Kind::Held);
        }
        let task = world.spawn(Kind::Take);
        world.arrive(1);
        world.settle();
        assert_eq!(world.served, [task]);
    }
}
