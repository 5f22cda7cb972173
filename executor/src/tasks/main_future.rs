//! The future of `block_on`, which has a slot but no box.

use polyloop_reactor::Token;

use crate::inspect::notes::Notes;
use crate::tasks::Tasks;
use crate::tasks::numbers::{LAST_GENERATION, MAIN, is_main, next_generation};
use crate::tasks::slot::Flags;

impl Tasks {
    /// Gives the main future a new id. Returns `None` if there is something else to do first, which
    /// [`begin_main_slowly`](Tasks::begin_main_slowly) does.
    ///
    /// The state of the last one in its slot is cleared. There are no callbacks, which need a handle, so no foreign value is
    /// dropped.
    #[inline]
    pub(crate) fn begin_main(&mut self) -> Option<Token> {
        self.n_mains_left = self.n_mains_left.checked_sub(1)?;
        let slot = &mut self.slots[self.main];
        slot.n_polls = 1;
        slot.notes = Notes::NONE;
        slot.id = next_generation(slot.id);
        Some(slot.id)
    }

    /// Does the same, in another slot if necessary. Returns `None` if there is no slot.
    #[cold]
    pub(crate) fn begin_main_slowly(&mut self) -> Option<Token> {
        let slot = &mut self.slots[self.main];
        slot.flags.clear(Flags::EXTRAS);
        self.extras.remove(&self.main);
        self.n_mains_left = LAST_GENERATION - 1 - (slot.id.generation() & LAST_GENERATION);
        if self.n_mains_left > 0 {
            return self.begin_main();
        }
        self.move_main()?;
        Some(self.slots[self.main].id)
    }

    /// Finds another slot for the main future, because its slot has no id left.
    pub(super) fn move_main(&mut self) -> Option<()> {
        let index = self.claim_slot()?;
        if let Some(old) = self.slots.get_mut(self.main).filter(|slot| is_main(slot.id)) {
            old.id = next_generation(old.id);
        }
        self.main = index;
        self.n_apart += 1;
        let generation = self.slots.first_generation();
        self.n_mains_left = LAST_GENERATION - 1 - generation;
        let slot = &mut self.slots[index];
        slot.id = Token::new(self.owner, MAIN | generation, index);
        slot.n_polls = 1;
        Some(())
    }
}
