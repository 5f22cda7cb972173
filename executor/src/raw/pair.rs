//! Two pinned futures that one function polls.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Stores two futures and a state in place, and polls them with a function.
///
/// An `async fn` stores a future that it is given twice, as its argument and as the pinned variable that it is moved
/// to. A pair stores it once.
pub(crate) struct Pair<A, B, S, P> {
    /// Invariant: `first` and `second` are only accessed through their pins once the pair is pinned.
    first: A,
    second: B,
    state: S,
    poll: P,
}

impl<A, B, S, P, T> Pair<A, B, S, P>
where
    P: FnMut(Pin<&mut A>, Pin<&mut B>, &mut S, &mut Context<'_>) -> Poll<T>,
{
    /// Stores the futures, which are dropped in this order, before `state`.
    pub(crate) fn new(first: A, second: B, state: S, poll: P) -> Pair<A, B, S, P> {
        Pair { first, second, state, poll }
    }
}

impl<A, B, S, P, T> Future for Pair<A, B, S, P>
where
    P: FnMut(Pin<&mut A>, Pin<&mut B>, &mut S, &mut Context<'_>) -> Poll<T>,
{
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: nothing is moved out of the reference: its fields are borrowed, below.
        let pair = unsafe { self.get_unchecked_mut() };
        // SAFETY: the field is pinned with the pair: `Pair` has no `Drop`, is `Unpin` only if all its fields are, and no
        // code moves the field, by the invariant.
        let first = unsafe { Pin::new_unchecked(&mut pair.first) };
        // SAFETY: as for the first field.
        let second = unsafe { Pin::new_unchecked(&mut pair.second) };
        (pair.poll)(first, second, &mut pair.state, cx)
    }
}
