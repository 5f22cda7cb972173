//! All selectors over one world, step by step.
//!
//! The scout is a selector that watches every descriptor for everything, level-triggered. What it
//! reports is compared with the model, which makes it the reference: the report of every other
//! selector is compared with what the scout saw, as far as it was asked for and in the words that
//! the backend has. The scout also waits for the network to deliver, so that nobody else has to.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use polyloop_reactor::{Backend, Events, Interest, Mode, Readiness, Registration, Selector, Token};

use crate::differences::{self, Bounds, Difference, Met, Question};
use crate::model::{EndId, News};
use crate::script::{N_SLOTS, Step};
use crate::world::{Slot, World};

/// How long a wait may take that has to end by itself.
const FOREVER: Duration = Duration::from_secs(10);

const ALL: Interest = Interest::READABLE.union(Interest::WRITABLE).union(Interest::PRIORITY);

/// Runs a script, and says at which step what went wrong. `patience` is for the network.
pub(crate) fn run(script: &[Step], patience: Duration, met: &mut Met) -> Result<(), Failure> {
    let fail = |index, text| Failure { index, text };
    let mut lockstep = Lockstep::new(patience).map_err(|error| fail(0, error.to_string()))?;
    for (index, step) in script.iter().enumerate() {
        lockstep.take(*step, met).map_err(|text| fail(index, text))?;
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Failure {
    /// The position of the step that failed.
    pub(crate) index: usize,
    pub(crate) text: String,
}

struct Lockstep {
    world: World,
    scout: Scout,
    participants: Vec<Participant>,
    next_token: u64,
}

impl Lockstep {
    fn new(patience: Duration) -> io::Result<Lockstep> {
        let mut backends = Backend::available().to_vec();
        // Whose reports take errors away comes last.
        backends.sort_by_key(|&backend| differences::takes_errors(backend));
        let participants: io::Result<_> = backends.into_iter().map(Participant::open).collect();
        Ok(Lockstep {
            world: World::new(patience),
            scout: Scout::open()?,
            participants: participants?,
            next_token: 1,
        })
    }

    fn take(&mut self, step: Step, met: &mut Met) -> Result<(), String> {
        // What was sent before has arrived when the next thing is done.
        self.scout.settle(&self.world)?;
        match step {
            Step::Open { slot, other, kind } => {
                if slot != other && self.world.is_empty(slot) && self.world.is_empty(other) {
                    self.world.open(slot, other, kind);
                    self.scout.watch(&self.world, slot)?;
                    self.scout.watch(&self.world, other)?;
                }
            }
            Step::Register { slot, interest, mode } => {
                self.enter(Call::Register, slot, interest, mode, met)?;
            }
            Step::Modify { slot, interest, mode } => {
                self.enter(Call::Modify, slot, interest, mode, met)?;
            }
            Step::Unregister { slot } => self.unregister(slot)?,
            Step::Write { slot, n_bytes } => self.world.write(slot, n_bytes),
            Step::Fill { slot } => self.world.fill(slot),
            Step::Read { slot, n_bytes } => {
                self.world.read(slot, n_bytes);
            }
            Step::Drain { slot } => self.world.drain(slot),
            Step::Shut { slot, how } => self.world.shut(slot, how),
            Step::Urge { slot } => {
                let mut backends = self.participants.iter().map(|one| one.backend);
                if !backends.any(|backend| differences::misreads_urgency(backend, met)) {
                    self.world.urge(slot);
                }
            }
            Step::TakeUrgent { slot } => self.world.take_urgent(slot),
            Step::Duplicate { slot, to } => {
                if self.world.file(slot).is_some() && self.world.is_empty(to) {
                    self.world.duplicate(slot, to);
                    self.scout.watch(&self.world, to)?;
                }
            }
            Step::Close { slot } => self.close(slot)?,
            Step::Abandon { slot } => self.abandon(slot, met)?,
            Step::Bury { slot } => self.bury(slot, None)?,
            Step::Succeed { slot, from } => self.bury(slot, Some(from))?,
            Step::Notify => {
                for one in &mut self.participants {
                    let result = one.selector.notifier().notify();
                    result.map_err(|error| format!("{}: notify: {error}", one.backend))?;
                    one.notified = Notified::Yes;
                }
            }
            Step::Look { room } => self.select(room, None, met)?,
            Step::Wait { timeout } => self.select(64, Some(timeout), met)?,
        }
        Ok(())
    }

    /// Registers or modifies everywhere, and compares the results and the books.
    fn enter(
        &mut self,
        call: Call,
        slot: usize,
        interest: Interest,
        mode: Mode,
        met: &mut Met,
    ) -> Result<(), String> {
        let Some((file, _)) = self.world.file(slot) else { return Ok(()) };
        for one in &mut self.participants {
            // Of everybody the same, and never used again.
            let token = Token::from_raw(self.next_token);
            let entry = Entry::new(file.as_raw_fd(), token, interest, mode);
            one.enter(call, slot, file, entry, met)?;
        }
        self.next_token += 1;
        Ok(())
    }

    fn unregister(&mut self, slot: usize) -> Result<(), String> {
        let Some((file, _)) = self.world.file(slot) else { return Ok(()) };
        self.participants.iter_mut().try_for_each(|one| one.unregister(slot, file))
    }

    fn close(&mut self, slot: usize) -> Result<(), String> {
        if self.world.file(slot).is_none() {
            return Ok(());
        }
        if self.participants.iter().any(|one| one.book.contains_key(&slot)) {
            self.unregister(slot)?;
        }
        self.scout.forget(&self.world, slot)?;
        self.world.close(slot, false);
        Ok(())
    }

    /// Closes without unregistering.
    fn abandon(&mut self, slot: usize, met: &mut Met) -> Result<(), String> {
        let Some((_, end)) = self.world.file(slot) else { return Ok(()) };
        let has_duplicate = self.world.model.n_descriptors(end) > 1;
        let is_watched = self.participants.iter().any(|one| one.book.contains_key(&slot));
        let mut backends = self.participants.iter().map(|one| one.backend);
        if !is_watched || backends.any(|backend| differences::dies_of_closing(backend, met)) {
            return self.close(slot);
        }
        self.scout.forget(&self.world, slot)?;
        self.world.close(slot, true);
        for one in &mut self.participants {
            let is_haunted = has_duplicate && differences::has_ghosts(one.backend);
            one.n_ghosts += usize::from(is_haunted);
        }
        Ok(())
    }

    /// Unregisters the number of a grave while another file has it, and keeps that file if it is
    /// a duplicate of `from`.
    fn bury(&mut self, slot: usize, from: Option<usize>) -> Result<(), String> {
        let Slot::Grave { number, .. } = self.world.slots[slot] else { return Ok(()) };
        let source = from.and_then(|from| self.world.file(from));
        if from.is_some() && source.is_none() {
            return Ok(());
        }
        let heir = self.world.heir(number, source.map(|(file, _)| file));
        let heir_end = source.map(|(_, end)| end);
        for one in &mut self.participants {
            one.unregister(slot, &heir)?;
        }
        self.world.slots[slot] = Slot::Empty;
        if let Some(end) = heir_end {
            self.world.slots[slot] = Slot::Open { file: heir, end };
            self.world.model.duplicated(end);
            self.scout.watch(&self.world, slot)?;
        }
        Ok(())
    }

    /// Waits with everybody, and compares the reports with what the scout sees.
    fn select(
        &mut self,
        room: usize,
        timeout: Option<Duration>,
        met: &mut Met,
    ) -> Result<(), String> {
        for index in 0..self.participants.len() {
            // Each time: the one before may have taken an error away.
            self.scout.settle(&self.world)?;
            let one = &mut self.participants[index];
            one.select(&self.world, &self.scout, room, timeout, met)?;
            if differences::takes_errors(one.backend) {
                for slot in one.book.keys() {
                    if let Some((_, end)) = self.world.file(*slot) {
                        self.world.model.maybe_took_error(end);
                        met.insert(Difference::ErrorTaken);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Watches everything for everything.
struct Scout {
    selector: Box<dyn Selector>,
    events: Events,
    /// What was seen of each slot.
    seen: [Readiness; N_SLOTS],
}

impl Scout {
    fn open() -> io::Result<Scout> {
        let events = Events::with_capacity(N_SLOTS);
        Ok(Scout { selector: Backend::Poll.open()?, events, seen: [Readiness::NONE; N_SLOTS] })
    }

    fn watch(&mut self, world: &World, slot: usize) -> Result<(), String> {
        let (file, _) = world.file(slot).expect("the slot was just filled");
        let token = Token::from_raw(slot as u64);
        let result = self.selector.register(file.as_fd(), token, ALL, Mode::Level);
        result.map_err(|error| format!("scout: register: {error}"))
    }

    fn forget(&mut self, world: &World, slot: usize) -> Result<(), String> {
        let Some((file, _)) = world.file(slot) else { return Ok(()) };
        let result = self.selector.unregister(file.as_fd());
        result.map_err(|error| format!("scout: unregister: {error}"))
    }

    /// Looks until the world is as the model has it. Only the network may take its time.
    fn settle(&mut self, world: &World) -> Result<(), String> {
        let mut deadline = None;
        loop {
            self.look()?;
            let Some((slot, end)) = self.find_unsettled(world) else { return Ok(()) };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + world.patience);
            if !world.model.is_network(end) || Instant::now() > deadline {
                let facts = world.model.facts(end);
                let name = describe(world, slot);
                return Err(format!(
                    "the scout (poll) sees {:?} of {name}; the model has {:?} for sure, and \
                     perhaps {:?}",
                    self.seen[slot], facts.sure, facts.open
                ));
            }
            std::thread::yield_now();
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let result = self.selector.select(&mut self.events, Some(Duration::ZERO));
        result.map_err(|error| format!("scout: select: {error}"))?;
        self.seen = [Readiness::NONE; N_SLOTS];
        for event in &self.events {
            self.seen[event.token.raw() as usize] = event.readiness;
        }
        Ok(())
    }

    fn find_unsettled(&self, world: &World) -> Option<(usize, EndId)> {
        (0..N_SLOTS).find_map(|slot| {
            let (_, end) = world.file(slot)?;
            let facts = world.model.facts(end);
            let is_settled = self.seen[slot].contains(facts.sure)
                && (facts.sure | facts.open).contains(self.seen[slot]);
            (!is_settled).then_some((slot, end))
        })
    }
}

/// One selector, and what must be in its books.
struct Participant {
    backend: Backend,
    selector: Box<dyn Selector>,
    book: HashMap<usize, Entry>,
    notified: Notified,
    /// How many closed descriptors may still be watched, and the set be made anew because of it.
    n_ghosts: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Notified {
    No,
    Maybe,
    Yes,
}

impl Notified {
    fn weaken(&mut self) {
        if *self == Notified::Yes {
            *self = Notified::Maybe;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Register,
    Modify,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fd: RawFd,
    token: Token,
    interest: Interest,
    mode: Mode,
    /// A one-shot that fired is not.
    is_armed: bool,
    /// The news at the last wait, `None` if there was none since it was registered or modified.
    seen: Option<News>,
    /// It was closed, and that was reported.
    is_told_invalid: bool,
}

impl Entry {
    fn new(fd: RawFd, token: Token, interest: Interest, mode: Mode) -> Entry {
        let (is_armed, seen, is_told_invalid) = (true, None, false);
        Entry { fd, token, interest, mode, is_armed, seen, is_told_invalid }
    }
}

impl Participant {
    fn open(backend: Backend) -> io::Result<Participant> {
        Ok(Participant {
            backend,
            selector: backend.open()?,
            book: HashMap::new(),
            notified: Notified::No,
            n_ghosts: 0,
        })
    }

    fn enter(
        &mut self,
        call: Call,
        slot: usize,
        file: impl AsFd,
        entry: Entry,
        met: &mut Met,
    ) -> Result<(), String> {
        let Entry { token, interest, mode, .. } = entry;
        let is_known = self.book.contains_key(&slot);
        let mut reasons = Vec::new();
        if interest.is_empty() {
            reasons.push(ErrorKind::InvalidInput);
        }
        if call == Call::Register && is_known {
            reasons.push(ErrorKind::AlreadyExists);
        }
        if call == Call::Modify && !is_known {
            reasons.push(ErrorKind::NotFound);
        }
        if differences::may_be_unsupported(self.backend, interest, mode, met) {
            reasons.push(ErrorKind::Unsupported);
        }
        if reasons.len() > 1 {
            met.insert(Difference::WhichError);
        }
        let result = match call {
            Call::Register => self.selector.register(file.as_fd(), token, interest, mode),
            Call::Modify => self.selector.modify(file.as_fd(), token, interest, mode),
        };
        match &result {
            Ok(()) if reasons.is_empty() => {
                self.book.insert(slot, entry);
            }
            // Where out-of-band data has a filter.
            Ok(()) if reasons == [ErrorKind::Unsupported] && mode != Mode::Edge => {
                self.book.insert(slot, entry);
            }
            Err(error) if reasons.contains(&error.kind()) => {}
            _ => {
                let call = format!("{call:?}").to_lowercase();
                return Err(format!(
                    "{}: {call} of slot {slot} gave {result:?}, not {reasons:?}",
                    self.backend
                ));
            }
        }
        self.check_books(file)
    }

    fn unregister(&mut self, slot: usize, file: impl AsFd) -> Result<(), String> {
        let was_known = self.book.remove(&slot).is_some();
        let result = self.selector.unregister(file.as_fd());
        let is_right = match &result {
            Ok(()) => was_known,
            Err(error) => !was_known && error.kind() == ErrorKind::NotFound,
        };
        if !is_right {
            let backend = self.backend;
            return Err(format!("{backend}: unregister of slot {slot} gave {result:?}"));
        }
        self.check_books(file)
    }

    /// Compares what the selector says is registered with what was.
    fn check_books(&self, file: impl AsFd) -> Result<(), String> {
        let expected = |entry: &Entry| Registration {
            fd: entry.fd,
            token: entry.token,
            interest: entry.interest,
            mode: entry.mode,
        };
        let mut book: Vec<Registration> = self.book.values().map(expected).collect();
        let mut list = self.selector.registrations();
        book.sort_unstable_by_key(|registration| registration.fd);
        list.sort_unstable_by_key(|registration| registration.fd);
        if list != book {
            return Err(format!("{}: has {list:?} registered, not {book:?}", self.backend));
        }
        let fd = file.as_fd().as_raw_fd();
        let entry = book.into_iter().find(|registration| registration.fd == fd);
        let got = self.selector.get(file.as_fd());
        if got != entry {
            return Err(format!("{}: get tells {got:?}, not {entry:?}", self.backend));
        }
        Ok(())
    }

    /// Waits until everything was told that has to be, and checks that nothing else was.
    fn select(
        &mut self,
        world: &World,
        scout: &Scout,
        room: usize,
        timeout: Option<Duration>,
        met: &mut Met,
    ) -> Result<(), String> {
        let room = differences::room(self.backend, room, self.book.len() + self.n_ghosts, met);
        let bounds = self.bounds(world, scout, met);
        let is_due = bounds.values().any(|bounds| bounds.is_due);
        let may_come = bounds.values().any(|bounds| !bounds.most.is_empty());
        let wait = match timeout {
            None => Duration::ZERO,
            Some(_) if is_due || self.notified == Notified::Yes => FOREVER,
            Some(_) if may_come || self.notified == Notified::Maybe => Duration::ZERO,
            Some(timeout) => timeout,
        };
        let mut told = HashMap::new();
        let mut events = Events::with_capacity(room);
        // Twice as many waits as it takes if everybody is ready and served in turn. Reports of
        // ghosts and a notification take up room, too, although nobody is told.
        let n_waits = 2 * (self.book.len() + self.n_ghosts + 1).div_ceil(room) + 1;
        for index in 0..n_waits {
            let wait = if index == 0 { wait } else { Duration::ZERO };
            self.wait(&mut events, wait, is_due)?;
            self.collect(world, &events, &bounds, &mut told)?;
            if events.is_full() {
                // It may not have heard a notification.
                self.notified.weaken();
            } else if self.notified == Notified::No && self.n_ghosts == 0 {
                break;
            } else {
                self.notified = Notified::No;
            }
        }
        self.wait_for_the_network(world, &bounds, &mut told)?;
        for (&slot, bounds) in &bounds {
            let told = told.get(&slot).copied();
            if !bounds.allow(told) {
                return Err(self.complain(world, slot, told, *bounds));
            }
        }
        self.take_note(world, &told);
        Ok(())
    }

    /// Waits once, and checks the time.
    fn wait(&mut self, events: &mut Events, wait: Duration, is_due: bool) -> Result<(), String> {
        let begin = Instant::now();
        let result = self.selector.select(events, Some(wait));
        result.map_err(|error| format!("{}: select: {error}", self.backend))?;
        let waited = begin.elapsed();
        if wait == FOREVER && waited >= FOREVER {
            let what = if is_due { "an event" } else { "a notification" };
            return Err(format!("{}: {what} did not end the wait", self.backend));
        }
        if wait < FOREVER && events.is_empty() && waited < wait {
            return Err(format!("{}: a wait of {wait:?} took {waited:?}", self.backend));
        }
        Ok(())
    }

    /// Notes and checks the events of one wait.
    fn collect(
        &self,
        world: &World,
        events: &Events,
        bounds: &HashMap<usize, Bounds>,
        told: &mut HashMap<usize, Readiness>,
    ) -> Result<(), String> {
        let mut in_this_wait = Vec::new();
        for event in events {
            let entry = self.book.iter().find(|(_, entry)| entry.token == event.token);
            let Some((&slot, entry)) = entry else {
                return Err(format!(
                    "{}: told {:?} with a token that nobody has",
                    self.backend, event.readiness
                ));
            };
            if in_this_wait.contains(&slot) {
                return Err(format!("{}: slot {slot} twice in one wait", self.backend));
            }
            in_this_wait.push(slot);
            // Told before, in this step, when there was still an error to tell.
            let is_told = told.contains_key(&slot);
            if is_told && entry.mode == Mode::Level && differences::takes_errors(self.backend) {
                continue;
            }
            if !bounds[&slot].allow(Some(event.readiness)) {
                return Err(self.complain(world, slot, Some(event.readiness), bounds[&slot]));
            }
            if is_told && entry.mode == Mode::OneShot {
                return Err(format!("{}: one-shot slot {slot} was told twice", self.backend));
            }
            *told.entry(slot).or_default() |= event.readiness;
        }
        Ok(())
    }

    /// Looks again, for a while, if something is due whose report the network may delay: the
    /// scout can see data a moment before an edge is raised.
    fn wait_for_the_network(
        &mut self,
        world: &World,
        bounds: &HashMap<usize, Bounds>,
        told: &mut HashMap<usize, Readiness>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + world.patience;
        let mut events = Events::with_capacity(N_SLOTS);
        loop {
            let is_missing = |(slot, bounds): (&usize, &Bounds)| {
                let file = world.file(*slot);
                let is_network = file.is_some_and(|(_, end)| world.model.is_network(end));
                bounds.is_due && is_network && !told.contains_key(slot)
            };
            if !bounds.iter().any(is_missing) || Instant::now() > deadline {
                return Ok(());
            }
            self.wait(&mut events, Duration::ZERO, true)?;
            self.collect(world, &events, bounds, told)?;
        }
    }

    /// Returns what may be told of each registered slot.
    fn bounds(&self, world: &World, scout: &Scout, met: &mut Met) -> HashMap<usize, Bounds> {
        let bounds = |(&slot, entry): (&usize, &Entry)| {
            let bounds = match world.slots[slot] {
                _ if !entry.is_armed => Bounds::SILENCE,
                Slot::Empty => Bounds::SILENCE,
                Slot::Grave { end, .. } => differences::after_closing(
                    self.backend,
                    world.model.is_open(end),
                    entry.is_told_invalid,
                    met,
                ),
                Slot::Open { end, .. } => {
                    let is_network = world.model.is_network(end);
                    // What the model leaves open is what the scout saw, except where it may
                    // change by itself.
                    let open = world.model.facts(end).open;
                    let question = Question {
                        backend: self.backend,
                        interest: entry.interest,
                        facts: scout.seen[slot],
                        in_motion: if is_network { open } else { Readiness::NONE },
                    };
                    let news = entry.seen.map(|seen| (seen, world.model.news(end)));
                    match entry.mode {
                        Mode::Level | Mode::OneShot => question.level(met),
                        Mode::Edge => question.edge(news, !is_network && self.n_ghosts == 0, met),
                    }
                }
            };
            (slot, bounds)
        };
        self.book.iter().map(bounds).collect()
    }

    /// Writes into the book what a wait has changed.
    fn take_note(&mut self, world: &World, told: &HashMap<usize, Readiness>) {
        for (slot, entry) in &mut self.book {
            let told = told.get(slot);
            if let Slot::Open { end, .. } = world.slots[*slot] {
                entry.seen = Some(world.model.news(end));
            }
            if told.is_some() && entry.mode == Mode::OneShot {
                entry.is_armed = false;
            }
            entry.is_told_invalid |= told.is_some_and(|told| told.is_invalid());
        }
    }

    fn complain(
        &self,
        world: &World,
        slot: usize,
        told: Option<Readiness>,
        bounds: Bounds,
    ) -> String {
        let entry = &self.book[&slot];
        let told = told.map_or("nothing".to_owned(), |told| format!("{told:?}"));
        let due = if bounds.is_due { "must tell" } else { "may tell" };
        format!(
            "{} tells {told} of {}, registered for {:?}, {:?}: it {due} {:?} at least, and {:?} \
             at most",
            self.backend,
            describe(world, slot),
            entry.interest,
            entry.mode,
            bounds.least,
            bounds.most
        )
    }
}

fn describe(world: &World, slot: usize) -> String {
    match &world.slots[slot] {
        Slot::Open { end, .. } => format!("slot {slot} ({:?})", world.model.kind(*end)),
        Slot::Grave { .. } => format!("slot {slot} (closed)"),
        Slot::Empty => format!("slot {slot} (empty)"),
    }
}
