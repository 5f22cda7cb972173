//! What is done: a script of steps, made from a seed, written and read as lines.
//!
//! Any list of steps is a script: a step that makes no sense where it stands (closing an empty
//! slot) does nothing. So a failing script can be shortened at will.

use std::fmt;
use std::net::Shutdown;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;
use polyloop_reactor::{Interest, Mode};

/// The number of places for descriptors.
pub(crate) const N_SLOTS: usize = 14;

/// How many registered descriptors may be closed, and not yet buried, at a time.
const MAX_GRAVES: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Makes a connected pair in two empty slots.
    Open {
        slot: usize,
        other: usize,
        kind: Kind,
    },
    Register {
        slot: usize,
        interest: Interest,
        mode: Mode,
    },
    Modify {
        slot: usize,
        interest: Interest,
        mode: Mode,
    },
    Unregister {
        slot: usize,
    },
    Write {
        slot: usize,
        n_bytes: usize,
    },
    /// Writes until it would block.
    Fill {
        slot: usize,
    },
    Read {
        slot: usize,
        n_bytes: usize,
    },
    /// Reads until it would block.
    Drain {
        slot: usize,
    },
    Shut {
        slot: usize,
        how: Shutdown,
    },
    /// Writes a byte of out-of-band data.
    Urge {
        slot: usize,
    },
    /// Reads it.
    TakeUrgent {
        slot: usize,
    },
    /// Duplicates a descriptor into an empty slot.
    Duplicate {
        slot: usize,
        to: usize,
    },
    /// Unregisters, then closes.
    Close {
        slot: usize,
    },
    /// Closes without unregistering: the slot becomes a grave.
    Abandon {
        slot: usize,
    },
    /// Unregisters the number of a grave while some other file has it.
    Bury {
        slot: usize,
    },
    /// The same, and the other file, a duplicate of `from`, stays.
    Succeed {
        slot: usize,
        from: usize,
    },
    Notify,
    /// Waits for no time at all, with room for so many events.
    Look {
        room: usize,
    },
    /// Waits for so long if nothing is to be reported, and for ever otherwise.
    Wait {
        timeout: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unix,
    /// The first slot reads, the other writes.
    Pipe,
    Tcp,
    Udp,
}

const KINDS: [(Kind, &str); 4] =
    [(Kind::Unix, "unix"), (Kind::Pipe, "pipe"), (Kind::Tcp, "tcp"), (Kind::Udp, "udp")];

const MODES: [(Mode, &str); 3] =
    [(Mode::Level, "level"), (Mode::OneShot, "one-shot"), (Mode::Edge, "edge")];

const HOWS: [(Shutdown, &str); 3] =
    [(Shutdown::Read, "read"), (Shutdown::Write, "write"), (Shutdown::Both, "both")];

const LETTERS: [(Interest, char); 3] =
    [(Interest::READABLE, 'r'), (Interest::WRITABLE, 'w'), (Interest::PRIORITY, 'p')];

/// Makes a script of `n_steps`.
pub(crate) fn generate(seed: u64, n_steps: usize) -> Vec<Step> {
    let mut author = Author { rng: Rng::with_seed(seed), slots: [State::Empty; N_SLOTS] };
    (0..n_steps).map(|_| author.next_step()).collect()
}

/// What the author knows of a slot, so that most steps make sense.
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
                // Now and then one that is registered already.
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

/// Writes one step for each line.
pub(crate) fn write(script: &[Step]) -> String {
    script.iter().map(|step| format!("{step}\n")).collect()
}

/// Reads steps from lines, or from one line with semicolons.
pub(crate) fn read(text: &str) -> Result<Vec<Step>, String> {
    let steps = text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty());
    steps.map(str::parse).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Step::Open { slot, other, kind } => {
                write!(f, "open {slot} {other} {}", word_of(&KINDS, kind))
            }
            Step::Register { slot, interest, mode } => {
                write!(f, "register {slot} {} {}", letters(interest), word_of(&MODES, mode))
            }
            Step::Modify { slot, interest, mode } => {
                write!(f, "modify {slot} {} {}", letters(interest), word_of(&MODES, mode))
            }
            Step::Unregister { slot } => write!(f, "unregister {slot}"),
            Step::Write { slot, n_bytes } => write!(f, "write {slot} {n_bytes}"),
            Step::Fill { slot } => write!(f, "fill {slot}"),
            Step::Read { slot, n_bytes } => write!(f, "read {slot} {n_bytes}"),
            Step::Drain { slot } => write!(f, "drain {slot}"),
            Step::Shut { slot, how } => write!(f, "shut {slot} {}", word_of(&HOWS, how)),
            Step::Urge { slot } => write!(f, "urge {slot}"),
            Step::TakeUrgent { slot } => write!(f, "take-urgent {slot}"),
            Step::Duplicate { slot, to } => write!(f, "duplicate {slot} {to}"),
            Step::Close { slot } => write!(f, "close {slot}"),
            Step::Abandon { slot } => write!(f, "abandon {slot}"),
            Step::Bury { slot } => write!(f, "bury {slot}"),
            Step::Succeed { slot, from } => write!(f, "succeed {slot} {from}"),
            Step::Notify => write!(f, "notify"),
            Step::Look { room } => write!(f, "look {room}"),
            Step::Wait { timeout } => write!(f, "wait {}", timeout.as_nanos()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Step, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let step = match words[..] {
            ["open", slot, other, kind] => Step::Open {
                slot: to_slot(slot)?,
                other: to_slot(other)?,
                kind: of_word(&KINDS, kind)?,
            },
            ["register", slot, interest, mode] => Step::Register {
                slot: to_slot(slot)?,
                interest: to_interest(interest)?,
                mode: of_word(&MODES, mode)?,
            },
            ["modify", slot, interest, mode] => Step::Modify {
                slot: to_slot(slot)?,
                interest: to_interest(interest)?,
                mode: of_word(&MODES, mode)?,
            },
            ["unregister", slot] => Step::Unregister { slot: to_slot(slot)? },
            ["write", slot, n] => Step::Write { slot: to_slot(slot)?, n_bytes: to_number(n)? },
            ["fill", slot] => Step::Fill { slot: to_slot(slot)? },
            ["read", slot, n] => Step::Read { slot: to_slot(slot)?, n_bytes: to_number(n)? },
            ["drain", slot] => Step::Drain { slot: to_slot(slot)? },
            ["shut", slot, how] => Step::Shut { slot: to_slot(slot)?, how: of_word(&HOWS, how)? },
            ["urge", slot] => Step::Urge { slot: to_slot(slot)? },
            ["take-urgent", slot] => Step::TakeUrgent { slot: to_slot(slot)? },
            ["duplicate", slot, to] => Step::Duplicate { slot: to_slot(slot)?, to: to_slot(to)? },
            ["close", slot] => Step::Close { slot: to_slot(slot)? },
            ["abandon", slot] => Step::Abandon { slot: to_slot(slot)? },
            ["bury", slot] => Step::Bury { slot: to_slot(slot)? },
            ["succeed", slot, from] => Step::Succeed { slot: to_slot(slot)?, from: to_slot(from)? },
            ["notify"] => Step::Notify,
            ["look", room] => Step::Look { room: to_number(room)?.max(1) },
            ["wait", ns] => Step::Wait { timeout: Duration::from_nanos(to_number(ns)? as u64) },
            _ => return Err(format!("{line:?} is no step")),
        };
        Ok(step)
    }
}

fn word_of<T: PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    let found = words.iter().find(|(candidate, _)| *candidate == value);
    found.expect("the list has every value").1
}

fn of_word<T: Copy>(words: &[(T, &str)], word: &str) -> Result<T, String> {
    let found = words.iter().find(|(_, candidate)| *candidate == word);
    found.map(|(value, _)| *value).ok_or_else(|| format!("{word:?} is not known"))
}

fn letters(interest: Interest) -> String {
    if interest.is_empty() {
        return "-".to_owned();
    }
    let asked = LETTERS.iter().filter(|(flag, _)| interest.contains(*flag));
    asked.map(|(_, letter)| letter).collect()
}

fn to_interest(word: &str) -> Result<Interest, String> {
    let mut interest = Interest::NONE;
    for letter in word.chars().filter(|&letter| letter != '-') {
        let found = LETTERS.iter().find(|(_, candidate)| *candidate == letter);
        interest |= found.ok_or_else(|| format!("{word:?} is no interest"))?.0;
    }
    Ok(interest)
}

fn to_number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn to_slot(word: &str) -> Result<usize, String> {
    match to_number(word)? {
        slot if slot < N_SLOTS => Ok(slot),
        _ => Err(format!("there is no slot {word}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_read_as_it_was_written() {
        let script = generate(1, 5_000);
        assert_eq!(read(&write(&script)).unwrap(), script);
        assert_eq!(read("look 3; notify").unwrap(), [Step::Look { room: 3 }, Step::Notify]);
        assert!(read("open 0 1 carrier-pigeon").is_err());
    }
}
