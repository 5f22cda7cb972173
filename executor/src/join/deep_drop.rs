//! Dropping values that own the next one of their kind, to any depth, on any stack.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use crate::catch::quietly;

/// How deep drops may nest before further values wait in a list.
///
/// As for aborts: deeper than values are nested by hand, shallow enough for a stack of
/// 64 KiB.
const DEPTH_MAX: u8 = 16;

thread_local! {
    /// How many calls of [`drop_deep`] are on the stack.
    static DEPTH: Cell<u8> = const { Cell::new(0) };
    /// The values that the innermost of [`DEPTH_MAX`] calls has to drop. It is empty outside of calls, and has no destructor,
    /// so that it is accessible until the thread ends.
    static LEFT: ManuallyDrop<RefCell<VecDeque<Box<dyn Any>>>> =
        const { ManuallyDrop::new(RefCell::new(VecDeque::new())) };
}

/// Drops `value` at once or, inside [`DEPTH_MAX`] other calls, before the innermost of them returns. A panic of a destructor
/// is caught.
///
/// The value has to be `'static`, because its drop may be deferred.
pub(crate) fn drop_deep<T: 'static>(value: T) {
    let depth = DEPTH.get();
    if depth == DEPTH_MAX {
        LEFT.with(|left| left.borrow_mut().push_back(Box::new(value)));
        return;
    }
    DEPTH.set(depth + 1);
    quietly(|| drop(value));
    if depth + 1 == DEPTH_MAX {
        drop_left();
    }
    DEPTH.set(depth);
}

#[cold]
fn drop_left() {
    LEFT.with(|left| {
        loop {
            let next = left.borrow_mut().pop_front();
            let Some(next) = next else { break };
            quietly(|| drop(next));
        }
        *left.borrow_mut() = VecDeque::new();
    });
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// Owns others of its kind, and records its drop.
    struct Node {
        number: usize,
        owned: Vec<Node>,
        order: Rc<RefCell<Vec<usize>>>,
    }

    impl Drop for Node {
        fn drop(&mut self) {
            self.order.borrow_mut().push(self.number);
            self.owned.drain(..).for_each(drop_deep);
            assert_ne!(self.number, 5, "on purpose");
        }
    }

    #[test]
    fn a_chain_ends_in_order_a_panic_in_it_ends_nothing_and_nothing_is_left() {
        let order = Rc::default();
        let node = |number, owned| Node { number, owned, order: Rc::clone(&order) };
        let n = 100_000;
        let chain = (0..n).rev().fold(Vec::new(), |owned, number| vec![node(number, owned)]);
        chain.into_iter().for_each(drop_deep);
        assert!(order.borrow().iter().copied().eq(0..n));
        assert_eq!(DEPTH.get(), 0);
        LEFT.with(|left| assert_eq!(left.borrow().capacity(), 0));
    }

    #[test]
    fn siblings_below_the_depth_are_dropped_in_the_order_of_their_lists() {
        let order = Rc::default();
        let node = |number, owned| Node { number, owned, order: Rc::clone(&order) };
        let siblings = (100..110).map(|number| node(number, Vec::new())).collect();
        let depth = usize::from(DEPTH_MAX);
        let chain = (10..10 + depth).rev().fold(siblings, |owned, i| vec![node(i, owned)]);
        chain.into_iter().for_each(drop_deep);
        assert!(order.borrow().iter().copied().eq((10..10 + depth).chain(100..110)));
    }
}
