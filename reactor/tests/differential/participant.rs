//! One selector: its registrations, its permitted reports, and its reports.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use polyloop_reactor::{
    Events, Interest, Mode, Notifier, Readiness, Registration, Selector, Token,
};

use crate::differences::{self, Bounds, Difference, Met, Question};
use crate::implementation::Implementation;
use crate::model::News;
use crate::scout::Scout;
use crate::script::N_SLOTS;
use crate::world::{Slot, World};

/// The limit of a wait that has to end.
const FOREVER: Duration = Duration::from_secs(10);

/// One selector, and its expected registrations.
pub(crate) struct Participant {
    pub(crate) of: Implementation,
    selector: Box<dyn Selector>,
    notifier: Notifier,
    pub(crate) registered: HashMap<usize, Entry>,
    notified: Notified,
    /// The number of closed descriptors that may still be watched, because of which the set may be rebuilt.
    pub(crate) n_stale: usize,
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
pub(crate) enum Call {
    Register,
    Modify,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    fd: RawFd,
    token: Token,
    interest: Interest,
    mode: Mode,
    /// A one-shot registration is not, once it has fired.
    is_armed: bool,
    /// The event counts at the last wait, or `None` if there was none since it was registered or modified.
    seen: Option<News>,
    /// It was closed, and this was reported.
    is_reported_invalid: bool,
    /// What the scout has seen since it was registered.
    since: Readiness,
}

impl Entry {
    pub(crate) fn new(fd: RawFd, token: Token, interest: Interest, mode: Mode) -> Entry {
        let (is_armed, seen, is_reported_invalid, since) = (true, None, false, Readiness::NONE);
        Entry { fd, token, interest, mode, is_armed, seen, is_reported_invalid, since }
    }
}

impl Participant {
    pub(crate) fn open(of: Implementation) -> io::Result<Participant> {
        let selector = of.open()?;
        Ok(Participant {
            of,
            // Created now, because its descriptors would take the number of one that the script closes.
            notifier: selector.notifier()?,
            selector,
            registered: HashMap::new(),
            notified: Notified::No,
            n_stale: 0,
        })
    }

    pub(crate) fn notify(&mut self) -> Result<(), String> {
        let result = self.notifier.notify();
        result.map_err(|error| format!("{}: notify: {error}", self.of.name))?;
        self.notified = Notified::Yes;
        Ok(())
    }

    /// Registers or modifies, and compares the result and the registration table.
    pub(crate) fn enter(
        &mut self,
        call: Call,
        slot: usize,
        file: impl AsFd,
        entry: Entry,
        met: &mut Met,
    ) -> Result<(), String> {
        let Entry { token, interest, mode, .. } = entry;
        let is_known = self.registered.contains_key(&slot);
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
        if differences::may_be_unsupported(self.of, interest, mode, met) {
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
                // A filter that stays is not armed again.
                let former =
                    self.registered.get(&slot).map_or(Readiness::NONE, |entry| entry.since);
                self.registered.insert(slot, Entry { since: former, ..entry });
            }
            Err(error) if reasons.contains(&error.kind()) => {}
            _ => {
                let call = format!("{call:?}").to_lowercase();
                return Err(format!(
                    "{}: {call} of slot {slot} returned {result:?}, not {reasons:?}",
                    self.of.name
                ));
            }
        }
        self.check_registrations(file)
    }

    pub(crate) fn unregister(&mut self, slot: usize, file: impl AsFd) -> Result<(), String> {
        let was_known = self.registered.remove(&slot).is_some();
        let result = self.selector.unregister(file.as_fd());
        let is_right = match &result {
            Ok(()) => was_known,
            Err(error) => !was_known && error.kind() == ErrorKind::NotFound,
        };
        if !is_right {
            let name = self.of.name;
            return Err(format!("{name}: unregister of slot {slot} returned {result:?}"));
        }
        self.check_registrations(file)
    }

    /// Compares the selector's registrations with the expected ones.
    fn check_registrations(&self, file: impl AsFd) -> Result<(), String> {
        let expected = |entry: &Entry| Registration {
            fd: entry.fd,
            token: entry.token,
            interest: entry.interest,
            mode: entry.mode,
        };
        let mut registered: Vec<Registration> = self.registered.values().map(expected).collect();
        let mut list = self.selector.registrations();
        registered.sort_unstable_by_key(|registration| registration.fd);
        list.sort_unstable_by_key(|registration| registration.fd);
        if list != registered {
            return Err(format!("{}: has {list:?} registered, not {registered:?}", self.of.name));
        }
        let fd = file.as_fd().as_raw_fd();
        let entry = registered.into_iter().find(|registration| registration.fd == fd);
        let got = self.selector.get(file.as_fd());
        if got != entry {
            return Err(format!("{}: get returns {got:?}, not {entry:?}", self.of.name));
        }
        Ok(())
    }

    /// Waits until everything that has to be reported is, and checks that nothing else is.
    pub(crate) fn select(
        &mut self,
        world: &World,
        scout: &Scout,
        room: usize,
        timeout: Option<Duration>,
        met: &mut Met,
    ) -> Result<(), String> {
        let room = differences::room(self.of, room, self.registered.len() + self.n_stale, met);
        let bounds = self.bounds(world, scout, met);
        let is_due = bounds.values().any(|bounds| bounds.is_due);
        let may_come = bounds.values().any(|bounds| !bounds.most.is_empty());
        let wait = match timeout {
            None => Duration::ZERO,
            Some(_) if is_due || self.notified == Notified::Yes => FOREVER,
            Some(_) if may_come || self.notified == Notified::Maybe => Duration::ZERO,
            Some(timeout) => timeout,
        };
        let mut reported = HashMap::new();
        let mut events = Events::with_capacity(room);
        // Twice as many waits as needed if all descriptors are ready and reported in turn. Stale registrations
        // and a notification also take capacity, although they are not reported.
        let n_waits = 2 * (self.registered.len() + self.n_stale + 1).div_ceil(room) + 1;
        for index in 0..n_waits {
            let wait = if index == 0 { wait } else { Duration::ZERO };
            self.wait(&mut events, wait, is_due)?;
            self.collect(world, &events, &bounds, &mut reported)?;
            if events.is_full() {
                // It may not have received a notification.
                self.notified.weaken();
            } else if self.notified == Notified::No && self.n_stale == 0 {
                break;
            } else {
                self.notified = Notified::No;
            }
        }
        self.wait_for_the_network(world, &bounds, &mut reported)?;
        for (&slot, bounds) in &bounds {
            let reported = reported.get(&slot).copied();
            if !bounds.allow(reported) {
                return Err(self.complain(world, slot, reported, *bounds));
            }
        }
        self.take_note(world, &reported);
        Ok(())
    }

    /// Waits once, and checks the duration.
    fn wait(&mut self, events: &mut Events, wait: Duration, is_due: bool) -> Result<(), String> {
        let start = Instant::now();
        let mut waited = Duration::ZERO;
        // A signal may end a wait early without events: a fuzzer uses an alarm. There are never two of them in one
        // wait.
        for _ in 0..2 {
            let result = self.selector.select(events, Some(wait.saturating_sub(waited)));
            result.map_err(|error| format!("{}: select: {error}", self.of.name))?;
            waited = start.elapsed();
            if !events.is_empty() || waited >= wait || self.notified != Notified::No {
                break;
            }
        }
        if wait == FOREVER && waited >= FOREVER {
            let what = if is_due { "an event" } else { "a notification" };
            return Err(format!("{}: {what} did not end the wait", self.of.name));
        }
        if wait < FOREVER && events.is_empty() && waited < wait {
            return Err(format!("{}: a wait of {wait:?} took {waited:?}", self.of.name));
        }
        Ok(())
    }

    /// Records and checks the events of one wait.
    fn collect(
        &self,
        world: &World,
        events: &Events,
        bounds: &HashMap<usize, Bounds>,
        reported: &mut HashMap<usize, Readiness>,
    ) -> Result<(), String> {
        let mut in_this_wait = Vec::new();
        for event in events {
            let entry = self.registered.iter().find(|(_, entry)| entry.token == event.token);
            let Some((&slot, entry)) = entry else {
                return Err(format!(
                    "{}: reported {:?} with an unknown token",
                    self.of.name, event.readiness
                ));
            };
            if in_this_wait.contains(&slot) {
                return Err(format!("{}: slot {slot} twice in one wait", self.of.name));
            }
            in_this_wait.push(slot);
            // Reported before in this step, when there was still an error.
            let is_reported = reported.contains_key(&slot);
            if is_reported && entry.mode == Mode::Level && differences::takes_errors(self.of) {
                continue;
            }
            if !bounds[&slot].allow(Some(event.readiness)) {
                return Err(self.complain(world, slot, Some(event.readiness), bounds[&slot]));
            }
            if is_reported && entry.mode == Mode::OneShot {
                return Err(format!("{}: one-shot slot {slot} was reported twice", self.of.name));
            }
            *reported.entry(slot).or_default() |= event.readiness;
        }
        Ok(())
    }

    /// Waits again, for a while, if an event is due that the network may delay: the scout can see data a moment
    /// before an edge is raised.
    fn wait_for_the_network(
        &mut self,
        world: &World,
        bounds: &HashMap<usize, Bounds>,
        reported: &mut HashMap<usize, Readiness>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + world.time_limit;
        let mut events = Events::with_capacity(N_SLOTS);
        loop {
            let is_missing = |(slot, bounds): (&usize, &Bounds)| {
                let file = world.file(*slot);
                let is_network = file.is_some_and(|(_, end)| world.model.is_network(end));
                bounds.is_due && is_network && !reported.contains_key(slot)
            };
            if !bounds.iter().any(is_missing) || Instant::now() > deadline {
                return Ok(());
            }
            self.wait(&mut events, Duration::ZERO, true)?;
            self.collect(world, &events, bounds, reported)?;
        }
    }

    /// Returns the permitted reports of each registered slot.
    fn bounds(&self, world: &World, scout: &Scout, met: &mut Met) -> HashMap<usize, Bounds> {
        let bounds = |(&slot, entry): (&usize, &Entry)| {
            let bounds = match world.slots[slot] {
                _ if !entry.is_armed => Bounds::SILENCE,
                Slot::Empty => Bounds::SILENCE,
                Slot::Grave { end, .. } => differences::after_closing(
                    self.of,
                    world.model.is_open(end),
                    entry.is_reported_invalid,
                    met,
                ),
                Slot::Open { end, .. } => {
                    let is_network = world.model.is_network(end);
                    // Optional flags are as the scout saw them, except where they may change
                    // by themselves.
                    let open = world.model.facts(end).open;
                    let question = Question {
                        of: self.of,
                        interest: entry.interest,
                        facts: scout.seen[slot],
                        in_motion: if is_network { open } else { Readiness::NONE },
                        since: entry.since,
                        pipe_direction: world.model.pipe_direction(end),
                        is_write_shut: world.model.is_write_shut(end),
                    };
                    let news = entry.seen.map(|seen| (seen, world.model.news(end)));
                    match entry.mode {
                        Mode::Level => question.level(met),
                        Mode::OneShot => question.one_shot(met),
                        Mode::Edge => question.edge(news, !is_network && self.n_stale == 0, met),
                    }
                }
            };
            (slot, bounds)
        };
        self.registered.iter().map(bounds).collect()
    }

    /// Records what the scout has seen.
    pub(crate) fn note_seen(&mut self, scout: &Scout) {
        for (slot, entry) in &mut self.registered {
            entry.since |= scout.seen[*slot];
        }
    }

    /// Updates the expected registrations after a wait.
    fn take_note(&mut self, world: &World, reported: &HashMap<usize, Readiness>) {
        for (slot, entry) in &mut self.registered {
            let reported = reported.get(slot);
            if let Slot::Open { end, .. } = world.slots[*slot] {
                entry.seen = Some(world.model.news(end));
            }
            if reported.is_some() && entry.mode == Mode::OneShot {
                entry.is_armed = false;
            }
            entry.is_reported_invalid |= reported.is_some_and(|reported| reported.is_invalid());
        }
    }

    fn complain(
        &self,
        world: &World,
        slot: usize,
        reported: Option<Readiness>,
        bounds: Bounds,
    ) -> String {
        let entry = &self.registered[&slot];
        let reported = reported.map_or("nothing".to_owned(), |reported| format!("{reported:?}"));
        let due = if bounds.is_due { "must report" } else { "may report" };
        format!(
            "{} reports {reported} for {}, registered for {:?}, {:?}: it {due} {:?} at least, and {:?} \
             at most",
            self.of.name,
            world.describe(slot),
            entry.interest,
            entry.mode,
            bounds.least,
            bounds.most
        )
    }
}
