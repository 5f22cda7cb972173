//! The scout: the reference for all reports.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use polyloop_reactor::{Backend, Events, Interest, Mode, Readiness, Selector, Token};

use crate::model::EndId;
use crate::script::N_SLOTS;
use crate::world::World;

const ALL: Interest = Interest::READABLE.union(Interest::WRITABLE).union(Interest::PRIORITY);

/// Watches all descriptors with full interest.
pub(crate) struct Scout {
    selector: Box<dyn Selector>,
    events: Events,
    /// The reports of each slot.
    pub(crate) seen: [Readiness; N_SLOTS],
}

impl Scout {
    pub(crate) fn open() -> io::Result<Scout> {
        let events = Events::with_capacity(N_SLOTS);
        Ok(Scout { selector: Backend::Poll.open()?, events, seen: [Readiness::NONE; N_SLOTS] })
    }

    pub(crate) fn watch(&mut self, world: &World, slot: usize) -> Result<(), String> {
        let (file, _) = world.file(slot).expect("the slot was just filled");
        let token = Token::from_raw(slot as u64);
        let result = self.selector.register(file.as_fd(), token, ALL, Mode::Level);
        result.map_err(|error| format!("scout: register: {error}"))
    }

    pub(crate) fn forget(&mut self, world: &World, slot: usize) -> Result<(), String> {
        let Some((file, _)) = world.file(slot) else { return Ok(()) };
        let result = self.selector.unregister(file.as_fd());
        result.map_err(|error| format!("scout: unregister: {error}"))
    }

    /// Waits until the reports match the model. Only the network may cause a delay.
    pub(crate) fn settle(&mut self, world: &World) -> Result<(), String> {
        let mut deadline = None;
        loop {
            self.look()?;
            let Some((slot, end)) = self.find_unsettled(world) else { return Ok(()) };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + world.time_limit);
            if !world.model.is_network(end) || Instant::now() > deadline {
                let facts = world.model.facts(end);
                let name = world.describe(slot);
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
