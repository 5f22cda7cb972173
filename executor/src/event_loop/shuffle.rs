//! Random order of ready tasks, so that tests find rare interleavings.

/// Shuffles each batch of ready tasks, reproducibly for a seed.
///
/// Uses Sebastiano Vigna's SplitMix64, which is short and good enough for this.
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) fn new(seed: u64) -> Shuffle {
        Shuffle(seed)
    }

    /// Puts the items into a random order, with equal probability of each.
    #[cold]
    pub(crate) fn mix<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Returns a number below `limit`. Its bias is below 2⁻³² for any batch that fits in memory.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((u128::from(bits) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_gives_another() {
        let mixed = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            Shuffle::new(seed).mix(&mut items);
            items
        };
        assert_eq!(mixed(7), mixed(7));
        assert_ne!(mixed(7), mixed(8));
        let mut sorted = mixed(7);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn every_order_comes_up() {
        let mut shuffle = Shuffle::new(1);
        let orders: HashSet<[u8; 4]> = (0..1_000)
            .map(|_| {
                let mut items = [0, 1, 2, 3];
                shuffle.mix(&mut items);
                items
            })
            .collect();
        assert_eq!(orders.len(), 24);
    }
}
