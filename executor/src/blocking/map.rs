//! One function for many items, with the outputs in order.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::BlockingPool;
use super::pool::{NO_THREAD, start};
use crate::raw::current::current;
use crate::{JoinError, JoinHandle};

/// Yields the outputs of one function for many items, in the order of the items. Returned by
/// [`BlockingPool::map`].
///
/// Tasks await [`next`](PoolMap::next), or use it as a [`Stream`]. Plain threads iterate over it with `for`, which
/// blocks.
///
/// No item is processed before the first output is requested. From then on, items are processed ahead of the output
/// that is waited for: twice as many as the pool's maximum of threads, or as many as
/// [`buffer_size`](PoolMap::buffer_size) sets. The iterator may therefore be infinite. Dropping the map cancels the
/// jobs that have not started.
///
/// If the pool is closed, the outputs of items that were not processed are cancelled [`JoinError`]s, and no further
/// items are taken from the iterator.
///
/// # Examples
/// ```
/// use polyloop::blocking::BlockingPool;
///
/// # polyloop::run(async {
/// let pool = BlockingPool::new(4);
/// let mut squares = pool.map(1_u64.., |i| i * i);
/// assert_eq!(squares.next().await.unwrap().unwrap(), 1);
/// assert_eq!(squares.next().await.unwrap().unwrap(), 4);
/// # }).unwrap();
/// ```
#[must_use = "no item is processed before an output is requested"]
pub struct PoolMap<I, F, T> {
    pool: BlockingPool,
    /// `None` when there are no more.
    items: Option<I>,
    f: Arc<F>,
    /// The jobs whose outputs have not been returned, in the order of their items.
    jobs: VecDeque<JoinHandle<T>>,
    n_ahead: usize,
    spawned_at: &'static Location<'static>,
}

impl<I, F, T> PoolMap<I, F, T> {
    pub(super) fn new(
        pool: BlockingPool,
        items: I,
        f: F,
        spawned_at: &'static Location<'static>,
    ) -> PoolMap<I, F, T> {
        let n_ahead = pool.max_threads().saturating_mul(2);
        let jobs = VecDeque::new();
        PoolMap { pool, items: Some(items), f: Arc::new(f), jobs, n_ahead, spawned_at }
    }

    /// Sets how many items are processed ahead, including outputs that were not taken yet: at least one.
    ///
    /// # References
    /// The parameter `buffersize` of Python's `ThreadPoolExecutor.map`.
    pub fn buffer_size(mut self, n_items: usize) -> PoolMap<I, F, T> {
        self.n_ahead = n_items.max(1);
        self
    }
}

impl<I, F, T> PoolMap<I, F, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    /// Waits for the next output, and returns `None` after the last one.
    ///
    /// # Errors
    /// The output is a [`JoinError`] if the function panicked or the pool was closed. The outputs of other items
    /// follow.
    ///
    /// # Panics
    /// Panics if the iterator panics, and where [`BlockingPool::try_spawn`] returns an error.
    ///
    /// # Cancel safety
    /// Cancel safe: no output is lost.
    pub async fn next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Spawns jobs until there are enough.
    #[track_caller]
    fn fill(&mut self) {
        while self.jobs.len() < self.n_ahead
            && let Some(items) = &mut self.items
        {
            let Some(item) = items.next() else {
                self.items = None;
                break;
            };
            // Checked before the spawn, so that the last job is certain to be cancelled.
            let is_closed = self.pool.is_closed();
            let f = Arc::clone(&self.f);
            let job = start(self.pool.workers(), None, self.spawned_at, move || f(item));
            self.jobs.push_back(job.expect(NO_THREAD));
            if is_closed {
                self.items = None;
            }
        }
    }
}

impl<I, F, T> Stream for PoolMap<I, F, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = Result<T, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.fill();
        let Some(job) = self.jobs.front_mut() else { return Poll::Ready(None) };
        let result = ready!(Pin::new(job).poll(cx));
        self.jobs.pop_front();
        Poll::Ready(Some(result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.items.as_ref().map_or((0, Some(0)), Iterator::size_hint);
        let n_jobs = self.jobs.len();
        // If the pool was closed, one more output follows, and then the end.
        (n_jobs + least.min(1), most.and_then(|most| most.checked_add(n_jobs)))
    }
}

// No field is ever pinned.
impl<I, F, T> Unpin for PoolMap<I, F, T> {}

impl<I, F, T> Drop for PoolMap<I, F, T> {
    fn drop(&mut self) {
        for job in &self.jobs {
            job.abort();
        }
    }
}

impl<I, F, T> fmt::Debug for PoolMap<I, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_struct("PoolMap");
        map.field("pool", &self.pool).field("n_jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl<I, F, T> IntoIterator for PoolMap<I, F, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = Result<T, JoinError>;
    type IntoIter = PoolMapIter<I, F, T>;

    /// Creates an iterator that blocks the thread until the next output is available.
    fn into_iter(self) -> PoolMapIter<I, F, T> {
        PoolMapIter { map: self }
    }
}

/// Yields the outputs of a [`PoolMap`] to a thread that may block.
///
/// # Panics
/// `next` panics inside a runtime, which it would block: await [`PoolMap::next`] there.
pub struct PoolMapIter<I, F, T> {
    map: PoolMap<I, F, T>,
}

impl<I, F, T> Iterator for PoolMapIter<I, F, T>
where
    I: Iterator,
    I::Item: Send + 'static,
    F: Fn(I::Item) -> T + Send + Sync + 'static,
    T: Send + 'static,
{
    type Item = Result<T, JoinError>;

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        assert!(
            current(|_| ()).is_none(),
            "the results of `map` were waited for inside a running loop: await `next` instead"
        );
        self.map.fill();
        Some(self.map.jobs.pop_front()?.join())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}

impl<I, F, T> fmt::Debug for PoolMapIter<I, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolMapIter").field(&self.map).finish()
    }
}
