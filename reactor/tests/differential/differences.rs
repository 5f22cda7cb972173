//! The permitted differences: `docs/differences.md` as code.
//!
//! Every row of its first table is a [`Difference`] here, and nothing else is tolerated. A row that no script
//! meets is reported, so that the table stays minimal.

use std::collections::BTreeSet;

use polyloop_reactor::conformance::{KqueueSystem, OtherDirection};
use polyloop_reactor::{Backend, Interest, Mode, Readiness};

use crate::implementation::Implementation;
use crate::model::News;

const R: Readiness = Readiness::READABLE;
const W: Readiness = Readiness::WRITABLE;
const PRIORITY: Readiness = Readiness::PRIORITY;
const ERROR: Readiness = Readiness::ERROR;
const HANG_UP: Readiness = Readiness::HANG_UP;
const CLOSED: Readiness = Readiness::READ_CLOSED;
const INVALID: Readiness = Readiness::INVALID;
const EVERYTHING: Readiness =
    R.union(W).union(PRIORITY).union(ERROR).union(HANG_UP).union(CLOSED).union(INVALID);

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    ThreeFlags,
    NoEdges,
    WhichError,
    EdgeAgain,
    TwoFilters,
    RoomForFilters,
    KeptOneShot,
    TwoWayPipe,
    OneWayPipe,
    EndOfWriting,
    ErrorTaken,
    NoPriority,
    NoUrgency,
    ClosedIsSilent,
    StaleRegistration,
    NoClosing,
}

impl Difference {
    pub(crate) const ALL: [Difference; 16] = [
        Difference::ThreeFlags,
        Difference::NoEdges,
        Difference::WhichError,
        Difference::EdgeAgain,
        Difference::TwoFilters,
        Difference::RoomForFilters,
        Difference::KeptOneShot,
        Difference::TwoWayPipe,
        Difference::OneWayPipe,
        Difference::EndOfWriting,
        Difference::ErrorTaken,
        Difference::NoPriority,
        Difference::NoUrgency,
        Difference::ClosedIsSilent,
        Difference::StaleRegistration,
        Difference::NoClosing,
    ];

    /// Returns its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Difference::ThreeFlags => "three-flags",
            Difference::NoEdges => "no-edges",
            Difference::WhichError => "which-error",
            Difference::EdgeAgain => "edge-again",
            Difference::TwoFilters => "two-filters",
            Difference::RoomForFilters => "room-for-filters",
            Difference::KeptOneShot => "kept-one-shot",
            Difference::TwoWayPipe => "two-way-pipe",
            Difference::OneWayPipe => "one-way-pipe",
            Difference::EndOfWriting => "end-of-writing",
            Difference::ErrorTaken => "error-taken",
            Difference::NoPriority => "no-priority",
            Difference::NoUrgency => "no-urgency",
            Difference::ClosedIsSilent => "closed-is-silent",
            Difference::StaleRegistration => "stale-registration",
            Difference::NoClosing => "no-closing",
        }
    }

    /// Returns whether it can occur on this system.
    pub(crate) fn is_here(self) -> bool {
        let all = Implementation::all();
        let has_epoll = Backend::Epoll.is_available();
        let has_library = all.iter().any(|one| one.is_library());
        let has =
            |is_it: fn(KqueueSystem) -> bool| all.iter().filter_map(|one| one.kqueue).any(is_it);
        match self {
            Difference::ThreeFlags | Difference::WhichError => true,
            Difference::NoEdges | Difference::EdgeAgain => has_epoll || has(|_| true),
            Difference::TwoFilters | Difference::RoomForFilters | Difference::EndOfWriting => {
                has(|_| true)
            }
            Difference::KeptOneShot => has(|system| system.keeps_one_shots),
            Difference::TwoWayPipe => has(|system| system.other_direction == OtherDirection::Open),
            Difference::OneWayPipe => {
                has(|system| system.other_direction == OtherDirection::Refused)
            }
            Difference::NoPriority => has(|system| !system.has_priority),
            Difference::ErrorTaken | Difference::NoUrgency | Difference::NoClosing => has_library,
            // If one implementation does not support it, no script closes a registered descriptor.
            Difference::ClosedIsSilent => !has_library,
            Difference::StaleRegistration => has_epoll && !has_library,
        }
    }
}

/// The differences that have occurred.
pub(crate) type Met = BTreeSet<Difference>;

/// The permitted reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// A report contains at least this.
    pub(crate) least: Readiness,
    /// A report contains at most this; if it is empty, there is no report.
    pub(crate) most: Readiness,
    /// There must be a report.
    pub(crate) is_due: bool,
}

impl Bounds {
    pub(crate) const SILENCE: Bounds = Bounds::at_most(Readiness::NONE);

    const fn at_most(most: Readiness) -> Bounds {
        Bounds { least: Readiness::NONE, most, is_due: false }
    }

    pub(crate) fn allow(self, reported: Option<Readiness>) -> bool {
        match reported {
            None => !self.is_due,
            Some(reported) => {
                !reported.is_empty()
                    && reported.contains(self.least)
                    && self.most.contains(reported)
            }
        }
    }

    fn or_silence(self) -> Bounds {
        Bounds { is_due: false, ..self }
    }
}

/// A registration of a selector, and what there is to report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) of: Implementation,
    pub(crate) interest: Interest,
    /// What poll reports of the descriptor with full interest.
    pub(crate) facts: Readiness,
    /// Flags that may change at any moment.
    pub(crate) in_motion: Readiness,
    /// What poll has reported since it was registered.
    pub(crate) since: Readiness,
    /// The direction that an end of a pipe is used in.
    pub(crate) pipe_direction: Option<Interest>,
    /// Whether it was shut down for writing, by either end.
    pub(crate) is_write_shut: bool,
}

impl Question {
    /// Returns what is reported for a state.
    pub(crate) fn level(mut self, met: &mut Met) -> Bounds {
        if let Some(direction) = self.pipe_direction
            && self.other_direction() == Some(OtherDirection::Refused)
            && !self.interest.without(direction).without(Interest::PRIORITY).is_empty()
        {
            met.insert(Difference::OneWayPipe);
            self.interest = self.interest.without(self.interest.without(direction));
        }
        let least = self.translate(self.facts.without(self.in_motion)).0;
        let most = self.translate(self.facts | self.in_motion).1;
        let plain = masked(self.interest, self.facts);
        match self.of.backend {
            Backend::Select if most != plain => met.insert(Difference::ThreeFlags),
            Backend::Kqueue if least != plain => met.insert(Difference::TwoFilters),
            _ => false,
        };
        Bounds { least, most: most | self.extra(met), is_due: !least.is_empty() }
    }

    /// Returns what is reported for a one-shot.
    pub(crate) fn one_shot(self, met: &mut Met) -> Bounds {
        let level = self.level(met);
        let kept = self.translate(self.facts | self.in_motion | self.since).1;
        if !self.of.kqueue.is_some_and(|system| system.keeps_one_shots) || level.most.contains(kept)
        {
            return level;
        }
        met.insert(Difference::KeptOneShot);
        Bounds { most: level.most | kept, ..level }
    }

    /// Returns the filters of kqueue for the direction that an end of a pipe is not used in.
    fn other_direction(self) -> Option<OtherDirection> {
        self.of.kqueue.map(|system| system.other_direction)
    }

    /// Returns what may be reported in addition to the facts.
    fn extra(self, met: &mut Met) -> Readiness {
        if self.of.kqueue.is_none() || !self.interest.is_writable() {
            return Readiness::NONE;
        }
        if self.is_write_shut {
            met.insert(Difference::EndOfWriting);
            return if self.interest.is_readable() { W } else { W | HANG_UP };
        }
        let is_reader = self.pipe_direction == Some(Interest::READABLE);
        let is_two_way = self.other_direction() == Some(OtherDirection::Open);
        if !(is_reader && is_two_way) {
            return Readiness::NONE;
        }
        met.insert(Difference::TwoWayPipe);
        let ends = if self.facts.is_hang_up() { HANG_UP | CLOSED } else { Readiness::NONE };
        W | ends
    }

    /// Returns what is reported for new events, or `None` if everything is.
    pub(crate) fn edge(self, news: Option<(News, News)>, is_strict: bool, met: &mut Met) -> Bounds {
        let level = self.level(met);
        let (reader, writer, urgent, trouble, anything) = match news {
            None => (true, true, true, true, true),
            Some((old, new)) => (
                new.data != old.data,
                new.room != old.room,
                new.urgent != old.urgent,
                new.trouble != old.trouble,
                new.any != old.any,
            ),
        };
        let mut due = Readiness::NONE;
        let mut say = |is_news, facts| due |= if is_news { facts } else { Readiness::NONE };
        say(reader && self.interest.is_readable(), R | CLOSED | HANG_UP | ERROR);
        say(writer && self.interest.is_writable(), W);
        say(urgent && self.interest.is_priority(), PRIORITY);
        say(trouble, HANG_UP | ERROR);
        if level.least.intersects(due) {
            // epoll reports the whole state, kqueue the filter with new events.
            let least = match self.of.backend {
                Backend::Kqueue => level.least.without(EVERYTHING.without(due)),
                _ => level.least,
            };
            return Bounds { least, ..level };
        }
        if anything || !is_strict {
            met.insert(Difference::EdgeAgain);
            let least = match self.of.backend {
                Backend::Kqueue => Readiness::NONE,
                _ => level.least,
            };
            return Bounds { least, ..level }.or_silence();
        }
        Bounds::at_most(self.extra(met))
    }

    /// Returns the minimum and the maximum that the backend reports for `facts`.
    fn translate(self, facts: Readiness) -> (Readiness, Readiness) {
        let interest = self.interest;
        let reported = masked(interest, facts);
        match self.of.backend {
            Backend::Select => {
                let mut reported = Readiness::NONE;
                if interest.is_readable() && facts.intersects(R | ERROR | HANG_UP) {
                    reported |= R;
                }
                if interest.is_writable() && facts.intersects(W | ERROR) {
                    reported |= W;
                }
                if interest.is_priority() && facts.is_priority() {
                    reported |= PRIORITY;
                }
                (reported, reported)
            }
            Backend::Kqueue => {
                let ends = facts.without(R | W | PRIORITY);
                let mut least = Readiness::NONE;
                if interest.is_readable() && facts.intersects(R | ERROR | HANG_UP | CLOSED) {
                    least |= R;
                    if facts.is_hang_up() {
                        least |= CLOSED;
                    }
                }
                if interest.is_writable() && facts.intersects(W | ERROR | HANG_UP) {
                    least |= W;
                    if facts.is_hang_up() {
                        least |= HANG_UP;
                    }
                }
                let has_priority = self.of.kqueue.is_some_and(|system| system.has_priority);
                if interest.is_priority() && facts.is_priority() && has_priority {
                    least |= PRIORITY;
                }
                if least.without(PRIORITY).is_empty() {
                    return (least, least);
                }
                // The end of a stream and a hang-up are one flag of each filter.
                let ends = if ends.is_empty() { ends } else { ends | CLOSED | HANG_UP | ERROR };
                (least, least | ends)
            }
            _ => (reported, reported),
        }
    }
}

/// Returns what the contract reports of `facts` for `interest`.
fn masked(interest: Interest, facts: Readiness) -> Readiness {
    let mut reported = facts.without(R | W | PRIORITY | CLOSED);
    let requested = [
        (interest.is_readable(), R | CLOSED),
        (interest.is_writable(), W),
        (interest.is_priority(), PRIORITY),
    ];
    for (_, flags) in requested.iter().filter(|(is_requested, _)| *is_requested) {
        reported |= facts.without(EVERYTHING.without(*flags));
    }
    reported
}

/// Returns what may be reported of a descriptor that was closed while it was registered.
pub(crate) fn after_closing(
    of: Implementation,
    has_duplicate: bool,
    is_reported: bool,
    met: &mut Met,
) -> Bounds {
    met.insert(Difference::ClosedIsSilent);
    let mut most = if is_reported { Readiness::NONE } else { INVALID };
    if has_duplicate && !is_reported && keeps_stale(of) {
        met.insert(Difference::StaleRegistration);
        most = EVERYTHING;
    }
    Bounds::at_most(most)
}

/// Returns whether the backend keeps watching a closed descriptor while a duplicate exists.
pub(crate) fn keeps_stale(of: Implementation) -> bool {
    of.backend == Backend::Epoll
}

/// Returns whether the backend is a library that follows dangling pointers when a descriptor is
/// closed while it is registered.
pub(crate) fn breaks_on_closing(of: Implementation, met: &mut Met) -> bool {
    of.is_library() && {
        met.insert(Difference::NoClosing);
        true
    }
}

/// Returns whether the backend is a library that reports out-of-band data as the end of the stream.
pub(crate) fn misreads_urgency(of: Implementation, met: &mut Met) -> bool {
    of.is_library() && {
        met.insert(Difference::NoUrgency);
        true
    }
}

/// Returns whether a registration in this way may be refused as unsupported.
pub(crate) fn may_be_unsupported(
    of: Implementation,
    interest: Interest,
    mode: Mode,
    met: &mut Met,
) -> bool {
    let has_no_edges = mode == Mode::Edge && matches!(of.backend, Backend::Select | Backend::Poll);
    let has_no_priority =
        interest.is_priority() && of.kqueue.is_some_and(|system| !system.has_priority);
    if has_no_edges {
        met.insert(Difference::NoEdges);
    }
    if has_no_priority {
        met.insert(Difference::NoPriority);
    }
    has_no_edges || has_no_priority
}

/// Returns the capacity that a wait for `n_descriptors` needs to report both directions of each.
pub(crate) fn room(of: Implementation, room: usize, n_descriptors: usize, met: &mut Met) -> usize {
    match of.backend {
        Backend::Kqueue => {
            met.insert(Difference::RoomForFilters);
            room.max(2 * n_descriptors + 1)
        }
        _ => room,
    }
}

/// Returns whether a report of an error consumes the error.
pub(crate) fn takes_errors(of: Implementation) -> bool {
    of.is_library()
}
