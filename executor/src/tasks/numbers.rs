//! The numbers of tasks: a loop, a generation and a slot.

use polyloop_reactor::Token;

/// The generations of the future that `block_on` polls itself: those with this bit. Half of the
/// numbers are its own, so that its number tells what it is, whichever slot it has.
pub(crate) const MAIN: u32 = 1 << (Token::GENERATION_BITS - 1);

/// The generation that no task has, apart from the bit [`MAIN`]. A slot that has come to it is
/// spent, and is never used again: numbers name one task for as long as the process lives.
pub(crate) const LAST_GENERATION: u32 = MAIN - 1;

/// The most slots that a loop has.
pub(super) const MAX_SLOTS: usize = Token::MAX_SLOT as usize + 1;

/// Reports whether `id` names the future of a `block_on`.
pub(crate) const fn is_main(id: Token) -> bool {
    id.generation() & MAIN != 0
}

/// Reports whether a slot with this number has had all its generations.
#[inline]
pub(super) fn is_spent(id: Token) -> bool {
    id.raw() & LAST == LAST
}

/// The bits of [`LAST_GENERATION`] where a number has them.
const LAST: u64 = Token::new(0, LAST_GENERATION, 0).raw();

/// Returns the number of the next task in a slot. The slot is not spent.
#[inline]
pub(super) fn next_generation(id: Token) -> Token {
    debug_assert!(!is_spent(id));
    Token::from_raw(id.raw() + (1 << Token::SLOT_BITS))
}

/// The parent of what is spawned from outside the loop. No slot has this number: its generation is
/// that of slots that are spent.
pub(crate) const NOBODY: Token = Token::from_raw(u64::MAX);

/// Why there is no room for another task.
pub(crate) const NO_ROOM: &str = "a loop holds 16,777,215 tasks, the most there can be";
