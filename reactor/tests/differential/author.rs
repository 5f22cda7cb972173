//! Generates scripts of random steps, most of which are meaningful in their place.

use std::time::Duration;

use fastrand::Rng;
use polyloop_reactor::{Interest, Mode};

use crate::script::{HOWS, KINDS, Kind, MODES, N_SLOTS, Step};

/// The maximum number of registered descriptors that are closed and not yet unregistered.
const MAX_GRAVES: usize = 2;

/// Makes a script of `n_steps`.
pub(crate) fn generate(seed: u64, n_steps: usize) -> Vec<Step> {
    let mut author = Author { rng: Rng::with_seed(seed), slots: [State::Empty; N_SLOTS] };
    (0..n_steps).map(|_| author.next_step()).collect()
}

/// The state of a slot, so that most steps are meaningful.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Empty,
    Open { kind: Kind, is_registered: bool },
    Grave,
}

struct Author {
    rng: Rng,
    slots: [State; N_SLOTS],
}

impl Author {
    fn next_step(&mut self) -> Step {
        loop {
            if let Some(step) = self.try_step() {
                return step;
            }
        }
    }

    fn try_step(&mut self) -> Option<Step> {
        let rng = &mut self.rng;
        let step = match rng.u32(0..100) {
            0..7 => {
                let (slot, other) = (self.pick(is_empty)?, self.pick(is_empty)?);
                let kind = KINDS[self.rng.usize(..KINDS.len())].0;
                if slot == other {
                    return None;
                }
                self.slots[slot] = State::Open { kind, is_registered: false };
                self.slots[other] = self.slots[slot];
                Step::Open { slot, other, kind }
            }
            7..19 => {
                // Sometimes one that is already registered.
                let slot = if rng.u32(..16) == 0 {
                    self.pick(is_open)?
                } else {
                    self.pick(|state| matches!(state, State::Open { is_registered: false, .. }))?
                };
                self.set_registered(slot, true);
                Step::Register { slot, interest: self.interest(), mode: self.mode() }
            }
            19..31 => {
                let slot = if rng.u32(..16) == 0 {
                    self.pick(is_open)?
                } else {
                    self.pick(is_registered)?
                };
                Step::Modify { slot, interest: self.interest(), mode: self.mode() }
            }
            31..34 => {
                let slot = self.pick(is_open)?;
                self.set_registered(slot, false);
                Step::Unregister { slot }
            }
            34..46 => {
                let n_bytes = [1, 1, 10, 700][rng.usize(..4)];
                Step::Write { slot: self.pick(is_open)?, n_bytes }
            }
            46..48 => Step::Fill { slot: self.pick(is_open)? },
            48..54 => {
                let n_bytes = [1, 1, 10, 700][rng.usize(..4)];
                Step::Read { slot: self.pick(is_open)?, n_bytes }
            }
            54..60 => Step::Drain { slot: self.pick(is_open)? },
            60..62 => {
                let how = HOWS[[0, 1, 1, 1, 2][rng.usize(..5)]].0;
                Step::Shut { slot: self.pick(is_stream)?, how }
            }
            62..64 => Step::Urge { slot: self.pick(is_tcp)? },
            64..65 => Step::TakeUrgent { slot: self.pick(is_tcp)? },
            65..67 => {
                let (slot, to) = (self.pick(is_open)?, self.pick(is_empty)?);
                let State::Open { kind, .. } = self.slots[slot] else { return None };
                self.slots[to] = State::Open { kind, is_registered: false };
                Step::Duplicate { slot, to }
            }
            67..71 => {
                let slot = self.pick(is_open)?;
                self.slots[slot] = State::Empty;
                Step::Close { slot }
            }
            71..72 => {
                let n_graves = self.slots.iter().filter(|state| is_grave(state)).count();
                if n_graves >= MAX_GRAVES {
                    return None;
                }
                let slot = self.pick(is_registered)?;
                self.slots[slot] = State::Grave;
                Step::Abandon { slot }
            }
            72..73 => {
                let slot = self.pick(is_grave)?;
                self.slots[slot] = State::Empty;
                Step::Bury { slot }
            }
            73..74 => {
                let (slot, from) = (self.pick(is_grave)?, self.pick(is_open)?);
                let State::Open { kind, .. } = self.slots[from] else { return None };
                self.slots[slot] = State::Open { kind, is_registered: false };
                Step::Succeed { slot, from }
            }
            74..76 => Step::Notify,
            76..77 => Step::Wait { timeout: Duration::from_nanos([1, 300_000][rng.usize(..2)]) },
            77..81 => Step::Look { room: rng.usize(1..5) },
            _ => Step::Look { room: 64 },
        };
        Some(step)
    }

    fn pick(&mut self, is_wanted: impl Fn(&State) -> bool) -> Option<usize> {
        let wanted = (0..N_SLOTS).filter(|&slot| is_wanted(&self.slots[slot]));
        self.rng.choice(wanted.collect::<Vec<_>>())
    }

    fn set_registered(&mut self, slot: usize, now: bool) {
        if let State::Open { is_registered, .. } = &mut self.slots[slot] {
            *is_registered = now;
        }
    }

    fn interest(&mut self) -> Interest {
        if self.rng.u32(..40) == 0 {
            return Interest::NONE;
        }
        let read = Interest::READABLE;
        let write = Interest::WRITABLE;
        let choices = [read, read, write, read | write, read | write];
        let interest = choices[self.rng.usize(..choices.len())];
        match self.rng.u32(..12) {
            0 => Interest::PRIORITY,
            1 | 2 => interest | Interest::PRIORITY,
            _ => interest,
        }
    }

    fn mode(&mut self) -> Mode {
        MODES[[0, 0, 0, 0, 1, 1, 1, 2][self.rng.usize(..8)]].0
    }
}

fn is_empty(state: &State) -> bool {
    *state == State::Empty
}

fn is_grave(state: &State) -> bool {
    *state == State::Grave
}

fn is_open(state: &State) -> bool {
    matches!(state, State::Open { .. })
}

fn is_registered(state: &State) -> bool {
    matches!(state, State::Open { is_registered: true, .. })
}

fn is_stream(state: &State) -> bool {
    matches!(state, State::Open { kind: Kind::Unix | Kind::Tcp, .. })
}

fn is_tcp(state: &State) -> bool {
    matches!(state, State::Open { kind: Kind::Tcp, .. })
}
