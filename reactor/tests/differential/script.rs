//! A script of steps, printed and parsed as lines.
//!
//! Any list of steps is a script: a step that is meaningless in its place (closing an empty slot) does nothing.
//! So a failing script can be shortened freely.

use std::fmt;
use std::net::Shutdown;
use std::str::FromStr;
use std::time::Duration;

use polyloop_reactor::{Interest, Mode};

/// The number of slots for descriptors.
pub(crate) const N_SLOTS: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Creates a connected pair in two empty slots.
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
    /// Closes without unregistering. The slot becomes a grave, which keeps the number free.
    Abandon {
        slot: usize,
    },
    /// Unregisters the number of a grave while another file has it.
    Bury {
        slot: usize,
    },
    /// The same, and the other file, a duplicate of `from`, stays.
    Succeed {
        slot: usize,
        from: usize,
    },
    Notify,
    /// Waits with a zero timeout, and the given capacity for events.
    Look {
        room: usize,
    },
    /// Waits with this timeout if no event is due, and indefinitely otherwise.
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

pub(crate) const KINDS: [(Kind, &str); 4] =
    [(Kind::Unix, "unix"), (Kind::Pipe, "pipe"), (Kind::Tcp, "tcp"), (Kind::Udp, "udp")];

pub(crate) const MODES: [(Mode, &str); 3] =
    [(Mode::Level, "level"), (Mode::OneShot, "one-shot"), (Mode::Edge, "edge")];

pub(crate) const HOWS: [(Shutdown, &str); 3] =
    [(Shutdown::Read, "read"), (Shutdown::Write, "write"), (Shutdown::Both, "both")];

const LETTERS: [(Interest, char); 3] =
    [(Interest::READABLE, 'r'), (Interest::WRITABLE, 'w'), (Interest::PRIORITY, 'p')];

/// Prints one step per line.
pub(crate) fn write(script: &[Step]) -> String {
    script.iter().map(|step| format!("{step}\n")).collect()
}

/// Parses steps from lines, or from one line with semicolons.
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
            _ => return Err(format!("{line:?} is not a step")),
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
    let requested = LETTERS.iter().filter(|(flag, _)| interest.contains(*flag));
    requested.map(|(_, letter)| letter).collect()
}

fn to_interest(word: &str) -> Result<Interest, String> {
    let mut interest = Interest::NONE;
    for letter in word.chars().filter(|&letter| letter != '-') {
        let found = LETTERS.iter().find(|(_, candidate)| *candidate == letter);
        interest |= found.ok_or_else(|| format!("{word:?} is not an interest"))?.0;
    }
    Ok(interest)
}

fn to_number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word:?} is not a number"))
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
    use crate::author::generate;

    #[test]
    fn every_step_parses_as_it_was_printed() {
        let script = generate(1, 5_000);
        assert_eq!(read(&write(&script)).unwrap(), script);
        assert_eq!(read("look 3; notify").unwrap(), [Step::Look { room: 3 }, Step::Notify]);
        assert!(read("open 0 1 carrier-pigeon").is_err());
    }
}
