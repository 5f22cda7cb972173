//! A map whose keys are assigned in ascending order.

use std::mem;

use crate::steps::step;

/// Lists up to this capacity are not shrunk.
const KEPT_LEN: usize = 1_024;

/// Stores values by number. Adding a value takes no search, and finding one rarely does: as long as few have been removed,
/// the number determines the position.
pub(super) struct Numbered<T> {
    /// Invariant: the numbers are in ascending order. `None` was removed; these are swept when they are the majority.
    entries: Vec<(usize, Option<T>)>,
    n_values: usize,
    next_number: usize,
}

impl<T> Numbered<T> {
    pub(super) fn new() -> Numbered<T> {
        Numbered { entries: Vec::new(), n_values: 0, next_number: 0 }
    }

    /// Returns the number of the next value, counting from zero.
    pub(super) fn next_number(&self) -> usize {
        self.next_number
    }

    pub(super) fn push(&mut self, value: T) {
        self.entries.push((self.next_number, Some(value)));
        self.next_number += 1;
        self.n_values += 1;
    }

    pub(super) fn get(&self, number: usize) -> Option<&T> {
        self.entries[self.position(number)?].1.as_ref()
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        let position = self.position(number)?;
        let value = self.entries[position].1.take()?;
        self.n_values -= 1;
        if self.entries.len() > 2 * self.n_values + 16 {
            self.entries.retain(|(_, value)| {
                step();
                value.is_some()
            });
            if self.entries.capacity() > KEPT_LEN.max(4 * self.n_values) {
                self.entries.shrink_to(2 * self.n_values);
            }
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.n_values
    }

    /// Iterates over the values, lowest number first.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|(_, value)| value.as_ref())
    }

    /// Takes all values. Numbers continue to ascend.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.n_values = 0;
        mem::take(&mut self.entries).into_iter().filter_map(|(_, value)| value).collect()
    }

    fn position(&self, number: usize) -> Option<usize> {
        step();
        let guess = number.checked_sub(self.entries.first()?.0)?;
        if self.entries.get(guess).is_some_and(|entry| entry.0 == number) {
            return Some(guess);
        }
        self.entries
            .binary_search_by(|entry| {
                step();
                entry.0.cmp(&number)
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_map_and_stays_small() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut numbered, mut model) = (Numbered::new(), BTreeMap::new());
        for _ in 0..20_000 {
            let number = random.usize(..=numbered.next_number());
            match random.u8(..4) {
                0 | 1 => {
                    model.insert(numbered.next_number(), number);
                    numbered.push(number);
                }
                2 => assert_eq!(numbered.get(number), model.get(&number)),
                // Either one of the first, so that many go, or any.
                _ => {
                    let first = model.keys().next().copied().unwrap_or_default();
                    for number in [number, first] {
                        assert_eq!(numbered.remove(number), model.remove(&number));
                    }
                }
            }
            assert_eq!(numbered.len(), model.len());
            assert!(numbered.entries.len() <= 2 * model.len() + 17);
        }
        assert!(numbered.values().eq(model.values()));
        assert_eq!(numbered.take().len(), model.len());
        assert_eq!((numbered.len(), numbered.get(0)), (0, None));
    }
}
