//! A table whose places are found, taken and freed in constant time.

use crate::steps::step;

/// Tables up to this capacity keep their memory.
const KEPT_LEN: usize = 64;

/// Stores values by place. The place that was freed last is taken next.
///
/// When the last value is removed, the memory of a table that has grown is released.
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    /// The head of the list of free places, or [`NONE`].
    first_free: usize,
    n_values: usize,
}

enum Entry<T> {
    Value(T),
    /// The next free place, or [`NONE`].
    Free(usize),
}

/// Stands for no place.
const NONE: usize = usize::MAX;

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab { entries: Vec::new(), first_free: NONE, n_values: 0 }
    }

    /// Stores a value and returns its place.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        step();
        self.n_values += 1;
        let place = self.first_free;
        if place == NONE {
            self.entries.push(Entry::Value(value));
            return self.entries.len() - 1;
        }
        if let Entry::Free(next) = self.entries[place] {
            self.first_free = next;
        }
        self.entries[place] = Entry::Value(value);
        place
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        step();
        match self.entries.get_mut(place)? {
            Entry::Value(value) => Some(value),
            Entry::Free(_) => None,
        }
    }

    /// Takes a value out, if there is one at `place`.
    pub(crate) fn remove(&mut self, place: usize) -> Option<T> {
        step();
        let entry = self.entries.get_mut(place)?;
        if let Entry::Free(_) = entry {
            return None;
        }
        let Entry::Value(value) = std::mem::replace(entry, Entry::Free(self.first_free)) else {
            return None;
        };
        self.first_free = place;
        self.n_values -= 1;
        if self.n_values == 0 && self.entries.capacity() > KEPT_LEN {
            *self = Slab::new();
        }
        Some(value)
    }

    /// Iterates over the values.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Value(value) => Some(value),
            Entry::Free(_) => None,
        })
    }

    /// Converts the table into its values.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.entries.into_iter().filter_map(|entry| match entry {
            Entry::Value(value) => Some(value),
            Entry::Free(_) => None,
        })
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::steps::count_steps;

    #[test]
    fn it_is_a_map_and_gives_its_memory_back_when_it_is_empty() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
        for i in 0..20_000 {
            let known = model.keys().nth(random.usize(..=model.len())).copied();
            let place = known.unwrap_or_else(|| random.usize(..100));
            match random.u8(..4) {
                0 | 1 => {
                    let place = slab.insert(i);
                    assert_eq!(model.insert(place, i), None);
                }
                2 => assert_eq!(slab.get_mut(place), model.get_mut(&place)),
                _ => assert_eq!(slab.remove(place), model.remove(&place)),
            }
        }
        assert!(slab.entries.capacity() > KEPT_LEN, "the model says nothing about memory");
        assert!(slab.values().eq(model.values()));
        for place in model.keys() {
            slab.remove(*place).unwrap();
        }
        assert_eq!(slab.entries.capacity(), 0);
        assert_eq!(slab.get_mut(0), None);
        assert_eq!(slab.remove(7), None);
    }

    #[test]
    fn an_operation_takes_as_many_steps_among_100_000_as_among_100() {
        let steps_among = |n: usize| {
            let mut slab = Slab::new();
            (0..n).for_each(|i| assert_eq!(slab.insert(i), i));
            count_steps(|| {
                for i in 0..100 {
                    let place = i * (n / 100);
                    *slab.get_mut(place).unwrap() += 1;
                    slab.remove(place).unwrap();
                    slab.insert(i);
                }
            })
        };
        assert_eq!(steps_among(100), 300);
        assert_eq!(steps_among(100_000), 300);
    }
}
