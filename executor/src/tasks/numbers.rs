//! The ids of tasks: a loop, a generation and a slot.

use polyloop_reactor::Token;

/// The bit of generations of the future that `block_on` polls itself. Half of the ids are reserved for it, so that its id
/// identifies it in any slot.
pub(crate) const MAIN: u32 = 1 << (Token::GENERATION_BITS - 1);

/// The generation that no task has, apart from the bit [`MAIN`]. A slot that has reached it is spent, and is not used again:
/// an id names one task for the lifetime of the process.
pub(crate) const LAST_GENERATION: u32 = MAIN - 1;

/// The maximum number of slots of a loop.
pub(super) const MAX_SLOTS: usize = Token::MAX_SLOT as usize + 1;

/// Reports whether `id` names the future of a `block_on`.
pub(crate) const fn is_main(id: Token) -> bool {
    id.generation() & MAIN != 0
}

/// Reports whether a slot with this id has had all its generations.
#[inline]
pub(super) fn is_spent(id: Token) -> bool {
    id.raw() & LAST == LAST
}

/// The bits of [`LAST_GENERATION`] in an id.
const LAST: u64 = Token::new(0, LAST_GENERATION, 0).raw();

/// Returns the id of the next task in a slot, which must not be spent.
#[inline]
pub(super) fn next_generation(id: Token) -> Token {
    debug_assert!(!is_spent(id));
    Token::from_raw(id.raw() + (1 << Token::SLOT_BITS))
}

/// The parent of tasks that are spawned from outside the loop. No slot has this id, because its generation is that of spent
/// slots.
pub(crate) const NO_TASK: Token = Token::from_raw(u64::MAX);

/// Why another task cannot be spawned.
pub(crate) const NO_ROOM: &str = "a loop holds 16,777,215 tasks, the most there can be";
