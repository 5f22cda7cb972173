//! Runs all selectors over the same descriptors, step by step.
//!
//! The scout is a level-triggered selector with full interest in every descriptor. Its reports are compared
//! with the model, which makes it the reference: the reports of every other selector are compared with the
//! scout's, restricted to its interest and to the flags of the backend. The scout also waits for the network to
//! deliver, so that the others need not.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use polyloop_reactor::{Interest, Mode, Token};

use crate::differences::{self, Difference, Met};
use crate::implementation::Implementation;
use crate::participant::{Call, Entry, Participant};
use crate::scout::Scout;
use crate::script::Step;
use crate::world::{Slot, World};

/// Runs a script, and returns the step and the reason of a failure. `time_limit` is the limit for the network.
pub(crate) fn run(script: &[Step], time_limit: Duration, met: &mut Met) -> Result<(), Failure> {
    let fail = |index, text| Failure { index, text };
    let mut lockstep = Lockstep::new(time_limit).map_err(|error| fail(0, error.to_string()))?;
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
    fn new(time_limit: Duration) -> io::Result<Lockstep> {
        let mut all = Implementation::all();
        // The one whose reports consume errors comes last.
        all.sort_by_key(|&one| differences::takes_errors(one));
        let participants: io::Result<_> = all.into_iter().map(Participant::open).collect();
        Ok(Lockstep {
            world: World::new(time_limit),
            scout: Scout::open()?,
            participants: participants?,
            next_token: 1,
        })
    }

    fn take(&mut self, step: Step, met: &mut Met) -> Result<(), String> {
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
                let mut all = self.participants.iter().map(|one| one.of);
                if !all.any(|one| differences::misreads_urgency(one, met)) {
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
            Step::Notify => self.participants.iter_mut().try_for_each(Participant::notify)?,
            Step::Look { room } => self.select(room, None, met)?,
            Step::Wait { timeout } => self.select(64, Some(timeout), met)?,
        }
        // Sent data has arrived before the next step.
        self.scout.settle(&self.world)?;
        self.participants.iter_mut().for_each(|one| one.note_seen(&self.scout));
        Ok(())
    }

    /// Registers or modifies everywhere, and compares the results and the registration tables.
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
            // The same for all selectors, and never reused.
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
        if self.participants.iter().any(|one| one.registered.contains_key(&slot)) {
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
        let is_watched = self.participants.iter().any(|one| one.registered.contains_key(&slot));
        let mut all = self.participants.iter().map(|one| one.of);
        if !is_watched || all.any(|one| differences::breaks_on_closing(one, met)) {
            return self.close(slot);
        }
        self.scout.forget(&self.world, slot)?;
        self.world.close(slot, true);
        for one in &mut self.participants {
            let is_stale = has_duplicate && differences::keeps_stale(one.of);
            one.n_stale += usize::from(is_stale);
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
        let next_owner = self.world.next_owner(number, source.map(|(file, _)| file));
        let heir_end = source.map(|(_, end)| end);
        for one in &mut self.participants {
            one.unregister(slot, &next_owner)?;
        }
        self.world.slots[slot] = Slot::Empty;
        if let Some(end) = heir_end {
            self.world.slots[slot] = Slot::Open { file: next_owner, end };
            self.world.model.duplicated(end);
            self.scout.watch(&self.world, slot)?;
        }
        Ok(())
    }

    /// Waits with all selectors, and compares their reports with the scout's.
    fn select(
        &mut self,
        room: usize,
        timeout: Option<Duration>,
        met: &mut Met,
    ) -> Result<(), String> {
        for index in 0..self.participants.len() {
            // Each time, because the previous one may have consumed an error.
            self.scout.settle(&self.world)?;
            let one = &mut self.participants[index];
            one.select(&self.world, &self.scout, room, timeout, met)?;
            if differences::takes_errors(one.of) {
                for slot in one.registered.keys() {
                    if let Some((_, end)) = self.world.file(*slot)
                        && self.world.model.maybe_took_error(end)
                    {
                        met.insert(Difference::ErrorTaken);
                    }
                }
            }
        }
        Ok(())
    }
}
