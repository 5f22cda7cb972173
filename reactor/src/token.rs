//! The packed number by which a thing in a slab is known outside it.

use std::fmt;

/// Names one tenant of one slot of one owner's slab, in 64 bits.
///
/// ```text
/// 63       54 53                    24 23                  0
/// +----------+------------------------+--------------------+
/// |  owner   |       generation       |        slot        |
/// +----------+------------------------+--------------------+
/// ```
///
/// A slot is reused, its generation is not: whoever still holds the number of an earlier tenant is
/// told apart from the present one by comparing one word. A slot that has had its last generation
/// is not used again. The executor numbers tasks and timers the same way, with the loop as owner. Selectors carry
/// tokens through and never look inside, so any number may be used there
/// ([`from_raw`](Token::from_raw)).
///
/// # Examples
/// ```
/// use polyloop::selectors::Token;
///
/// let token = Token::new(3, 70_000, 12);
/// assert_eq!((token.owner(), token.generation(), token.slot()), (3, 70_000, 12));
/// assert_eq!(Token::from_raw(token.raw()), token);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The number of bits for the slot.
    pub const SLOT_BITS: u32 = 24;
    /// The number of bits for the generation.
    pub const GENERATION_BITS: u32 = 30;
    /// The number of bits for the owner.
    pub const OWNER_BITS: u32 = 10;

    /// The largest slot.
    pub const MAX_SLOT: u32 = (1 << Token::SLOT_BITS) - 1;
    /// The largest generation.
    pub const MAX_GENERATION: u32 = (1 << Token::GENERATION_BITS) - 1;
    /// The largest owner.
    pub const MAX_OWNER: u16 = (1 << Token::OWNER_BITS) - 1;

    /// Packs the three parts. Bits beyond a part's width are cut off.
    pub const fn new(owner: u16, generation: u32, slot: u32) -> Token {
        let owner = (owner & Token::MAX_OWNER) as u64;
        let generation = (generation & Token::MAX_GENERATION) as u64;
        let slot = (slot & Token::MAX_SLOT) as u64;
        Token(
            owner << (Token::GENERATION_BITS + Token::SLOT_BITS)
                | generation << Token::SLOT_BITS
                | slot,
        )
    }

    /// Takes any number as a token.
    pub const fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    /// Returns the number.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the owner: the number of the loop.
    pub const fn owner(self) -> u16 {
        (self.0 >> (Token::GENERATION_BITS + Token::SLOT_BITS)) as u16
    }

    /// Returns the generation of the slot's tenant.
    pub const fn generation(self) -> u32 {
        (self.0 >> Token::SLOT_BITS) as u32 & Token::MAX_GENERATION
    }

    /// Returns the slot.
    pub const fn slot(self) -> u32 {
        self.0 as u32 & Token::MAX_SLOT
    }

    /// Returns the token of the slot's next tenant.
    ///
    /// After the largest generation comes 0, which was there before: owners stop in time.
    pub const fn next_tenant(self) -> Token {
        let generation = self.generation() + 1;
        Token::new(self.owner(), generation, self.slot())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}:{}:{})", self.owner(), self.generation(), self.slot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_survives_the_round_trip() {
        for owner in [0, 1, 511, Token::MAX_OWNER] {
            for generation in [0, 1, 1 << 29, Token::MAX_GENERATION] {
                for slot in [0, 1, 1 << 23, Token::MAX_SLOT] {
                    let token = Token::new(owner, generation, slot);
                    assert_eq!(
                        (token.owner(), token.generation(), token.slot()),
                        (owner, generation, slot)
                    );
                }
            }
        }
    }

    #[test]
    fn too_wide_parts_do_not_spill_into_their_neighbours() {
        let token = Token::new(u16::MAX, 0, u32::MAX);
        assert_eq!((token.owner(), token.generation()), (Token::MAX_OWNER, 0));
        let token = Token::new(0, u32::MAX, 0);
        assert_eq!((token.owner(), token.slot()), (0, 0));
    }

    #[test]
    fn generations_wrap_without_touching_owner_or_slot() {
        let last = Token::new(7, Token::MAX_GENERATION, 9);
        assert_eq!(last.next_tenant(), Token::new(7, 0, 9));
    }

    #[test]
    fn the_parts_fill_the_word() {
        assert_eq!(Token::SLOT_BITS + Token::GENERATION_BITS + Token::OWNER_BITS, u64::BITS);
    }
}
