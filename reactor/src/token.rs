//! [`Token`]: a 64-bit number that identifies an entry of a slab.

use std::fmt;

/// Identifies a registration, or an entry in a slot of a loop's slab, in 64 bits.
///
/// ```text
/// 63       54 53                    24 23                  0
/// +----------+------------------------+--------------------+
/// |  owner   |       generation       |        slot        |
/// +----------+------------------------+--------------------+
/// ```
///
/// A slot is reused, a generation is not: a token of an earlier generation differs from the current one
/// in the comparison of one word. A slot that has reached its last generation is not used again. The
/// executor numbers tasks in the same way, with the loop as owner.
///
/// Selectors return tokens as they are and do not interpret them, so any number may be used with a selector
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
    /// The number of bits of the slot.
    pub const SLOT_BITS: u32 = 24;
    /// The number of bits of the generation.
    pub const GENERATION_BITS: u32 = 30;
    /// The number of bits of the owner.
    pub const OWNER_BITS: u32 = 10;

    /// The largest slot.
    pub const MAX_SLOT: u32 = (1 << Token::SLOT_BITS) - 1;
    /// The largest generation.
    pub const MAX_GENERATION: u32 = (1 << Token::GENERATION_BITS) - 1;
    /// The largest owner.
    pub const MAX_OWNER: u16 = (1 << Token::OWNER_BITS) - 1;

    /// Creates a token from its parts. Bits beyond the width of a part are cut off.
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

    /// Creates a token from any number.
    pub const fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    /// Returns the token as a number.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the owner, which is the number of a loop.
    pub const fn owner(self) -> u16 {
        (self.0 >> (Token::GENERATION_BITS + Token::SLOT_BITS)) as u16
    }

    /// Returns the generation.
    pub const fn generation(self) -> u32 {
        (self.0 >> Token::SLOT_BITS) as u32 & Token::MAX_GENERATION
    }

    /// Returns the slot.
    pub const fn slot(self) -> u32 {
        self.0 as u32 & Token::MAX_SLOT
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
    fn the_parts_fill_the_word() {
        assert_eq!(Token::SLOT_BITS + Token::GENERATION_BITS + Token::OWNER_BITS, u64::BITS);
    }
}
