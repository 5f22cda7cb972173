//! The one place that pairs "try, would block, wait, try again".

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use polyloop_executor::{
    Tried, current_loop, forget_waiter, note_io, poll_source, release_source, with_reactor,
};
use polyloop_reactor::socket::{Kind, blocking_standard_streams, kind_of};
use polyloop_reactor::{Direction, Token, WaiterKey, Watched};
use socket2::SockRef;

use crate::homes::{Homes, NOWHERE};

/// Makes any pollable descriptor awaitable: a socket, a pipe, an eventfd, a terminal.
///
/// It owns what it watches, and closes it only after it was unregistered. The descriptor is
/// registered when an operation on it would block for the first time, and not before.
///
/// Where it is registered follows from where it is used. Used on a second loop, it registers
/// there too; the first loop lets go of it as soon as it reports there and nobody waits. So a
/// socket can be moved from loop to loop, and one listener can serve several.
///
/// Dropped on the thread of its loop, it drops the `T` there and then, and a panic of the `T`'s
/// destructor goes to the caller, as usual. Dropped on another thread, the `T` is dropped by its
/// loop, in the next turn; a panic is then reported by the panic hook and ends nothing.
///
/// `O_NONBLOCK` belongs to the open file and not to the descriptor: duplicates share it, in this process and
/// in others. If another owner clears it, as a program may that inherits a socket as its standard input,
/// an operation that is not ready blocks the loop and all of its tasks. Give such a program a descriptor of its
/// own, or one end of a socket pair.
///
/// # Examples
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use polyloop::net::{AsyncFd, Direction};
///
/// # polyloop::run(async {
/// let (reader, mut writer) = UnixStream::pair()?;
/// let reader = AsyncFd::new(reader)?;
/// std::thread::spawn(move || writer.write_all(b"hello"));
///
/// let mut buf = [0; 16];
/// let n = reader.async_io(Direction::Read, |mut socket: &UnixStream| socket.read(&mut buf)).await?;
/// assert_eq!(&buf[..n], b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct AsyncFd<T: AsFd + Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
}

/// What the loops that watch the descriptor own together with the user.
///
/// The order of the fields puts the two that every operation needs side by side: the descriptor
/// and the latest of its homes.
#[repr(C)]
struct Shared<T> {
    homes: Homes,
    io: T,
    /// Whether moving less than was asked for proves that the next operation would block.
    short_is_proof: bool,
}

impl<T: AsFd> AsFd for Shared<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd + Send + Sync> Watched for Shared<T> {
    fn is_home(&self, token: Token) -> bool {
        self.homes.latest() == token
    }

    fn short_is_proof(&self) -> bool {
        self.short_is_proof
    }
}

impl<T: AsFd + Send + Sync + 'static> AsyncFd<T> {
    /// Takes a descriptor and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says. [`InvalidInput`](io::ErrorKind::InvalidInput) for two kinds:
    /// - Files and directories on a disk: they count as ready always, and reading them blocks all
    ///   the same. Read them with `spawn_blocking`.
    /// - A terminal, a pipe or another device that is a standard stream of this process, under
    ///   whatever number: it shares its mode with other programs, such as the shell, whose reads and
    ///   writes would fail. Open the terminal anew instead. One that is non-blocking already is
    ///   accepted, since its mode does not change.
    ///
    /// A socket is accepted whatever its number is: a daemon that has closed its standard streams
    /// gets the numbers 0 to 2 for its sockets, and inetd passes a connection as all three.
    pub fn new(io: T) -> io::Result<AsyncFd<T>> {
        let kind = kind_of(io.as_fd())?;
        check_kind(kind)?;
        let may_be_shared = matches!(kind, Kind::Pipe { .. } | Kind::Device);
        let same = || blocking_standard_streams(io.as_fd());
        let before = if may_be_shared { same() } else { [false; 3] };
        SockRef::from(&io).set_nonblocking(true)?;
        if before != [false; 3] && same() != before {
            SockRef::from(&io).set_nonblocking(false)?;
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a standard stream cannot be made non-blocking: it shares its mode with other programs",
            ));
        }
        Ok(AsyncFd::of_kind(io, kind.short_is_proof()))
    }

    /// Takes a descriptor that is non-blocking already.
    ///
    /// One that is not would block the loop.
    pub fn from_nonblocking(io: T) -> AsyncFd<T> {
        // The streams of this crate are what their types say.
        AsyncFd::of_kind(io, true)
    }

    fn of_kind(io: T, short_is_proof: bool) -> AsyncFd<T> {
        AsyncFd { shared: Arc::new(Shared { io, homes: Homes::new(), short_is_proof }) }
    }

    /// Lends what is watched.
    pub fn get_ref(&self) -> &T {
        &self.shared.io
    }

    /// Gives back what was watched.
    ///
    /// # Errors
    /// The object itself, if another loop is about to let go of it: that takes until its next
    /// turn.
    pub fn into_inner(self) -> Result<T, AsyncFd<T>> {
        self.release();
        let shared = Arc::clone(&self.shared);
        drop(self);
        Arc::try_unwrap(shared).map(|shared| shared.io).map_err(|shared| AsyncFd { shared })
    }

    /// Performs `operation` as soon as it would not block.
    ///
    /// `operation` is tried at once unless it is known that it would block, and again whenever
    /// the descriptor is ready, until it returns something else than
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). Interrupted ones are repeated.
    ///
    /// `WouldBlock` has to mean that any operation in this direction would block: where several
    /// tasks wait for the same direction, an event wakes the one that has waited longest, and what
    /// it finds counts for all. An operation that looks for something else, such as the error queue
    /// of a socket, belongs to a duplicate of the descriptor in an `AsyncFd` of its own.
    ///
    /// # Errors
    /// What `operation` returns; outside a loop; what the selector says of the descriptor;
    /// `InvalidInput` for a file on a disk.
    ///
    /// # Cancel safety
    /// `operation` is not called again once the future is dropped, and the call that succeeds is
    /// the last one, so nothing is lost.
    pub fn async_io<R, F>(
        &self,
        direction: Direction,
        operation: F,
    ) -> impl Future<Output = io::Result<R>>
    where
        F: FnMut(&T) -> io::Result<R>,
    {
        let mut operation = operation;
        self.async_attempt(direction, move |io| Ok((operation(io)?, Tried::Done)))
    }

    /// Performs an operation as [`async_io`](AsyncFd::async_io) does; it says itself what it came
    /// to.
    pub(crate) fn async_attempt<R, F>(
        &self,
        direction: Direction,
        operation: F,
    ) -> impl Future<Output = io::Result<R>>
    where
        F: FnMut(&T) -> io::Result<(R, Tried)>,
    {
        Attempt { waiter: Waiter::new(self, direction), operation }
    }

    /// Waits until an operation in `direction` is worth trying.
    ///
    /// It may still find nothing: then [`try_io`](AsyncFd::try_io) notes that, and the next wait
    /// is a real one.
    ///
    /// # Errors
    /// As for [`async_io`](AsyncFd::async_io).
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn ready(&self, direction: Direction) -> impl Future<Output = io::Result<()>> {
        let mut waiter = Waiter::new(self, direction);
        poll_fn(move |cx| waiter.poll_ready(cx))
    }

    /// Performs `operation` now.
    ///
    /// # Errors
    /// What `operation` returns, [`WouldBlock`](io::ErrorKind::WouldBlock) among it.
    pub fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.try_attempt(direction, |io| Ok((operation(io)?, Tried::Done)))
    }

    /// Performs an operation now; it says itself what it came to.
    #[inline]
    pub(crate) fn try_attempt<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<(R, Tried)>,
    ) -> io::Result<R> {
        loop {
            let (result, tried) = match operation(&self.shared.io) {
                Ok((value, tried)) => (Ok(value), tried),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (Err(error), Tried::WouldBlock)
                }
                Err(error) => (Err(error), Tried::Done),
            };
            note_io(self.shared.homes.latest(), direction, tried);
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Looks for an earlier registration with the running loop, and makes it the home.
    #[cold]
    fn come_home(&self) -> io::Result<bool> {
        if self.shared.homes.latest() == NOWHERE {
            return Ok(false);
        }
        let Some(here) = current_loop() else { return Ok(false) };
        let Some(token) = self.shared.homes.abroad(here) else { return Ok(false) };
        let is_registered = with_reactor(|reactor| reactor.contains(token))?;
        if is_registered {
            self.shared.homes.move_to(token);
        }
        Ok(is_registered)
    }

    /// Registers with the running loop.
    fn register(&self) -> io::Result<Token> {
        if !with_reactor(|reactor| reactor.refuses_files())? {
            // The selector would accept a file, and report that it is always ready.
            check_pollable(self.as_fd())?;
        }
        let io: Arc<dyn Watched> = Arc::clone(&self.shared) as Arc<dyn Watched>;
        let registered = with_reactor(|reactor| reactor.register(io))?;
        let token = registered.map_err(|error| match check_pollable(self.as_fd()) {
            Err(clearer) => clearer,
            Ok(()) => error,
        })?;
        self.shared.homes.move_to(token);
        Ok(token)
    }

    /// Lets go of every loop.
    fn release(&self) {
        if self.shared.homes.latest() != NOWHERE {
            for token in self.shared.homes.take() {
                release_source(token);
            }
        }
    }
}

/// Refuses what only a thread of its own can wait for.
fn check_pollable(fd: BorrowedFd<'_>) -> io::Result<()> {
    check_kind(kind_of(fd)?)
}

fn check_kind(kind: Kind) -> io::Result<()> {
    if kind != Kind::File {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "a file on a disk is always ready and blocks all the same: use `spawn_blocking` to read or write it",
    ))
}

/// Takes back what was watched. If another loop has not let go of it yet, what is returned is a
/// second descriptor for the same thing.
pub(crate) fn into_std<T: AsFd + Send + Sync + 'static>(
    fd: AsyncFd<T>,
    try_clone: impl FnOnce(&T) -> io::Result<T>,
) -> io::Result<T> {
    fd.into_inner().or_else(|fd| try_clone(fd.get_ref()))
}

impl<T: AsFd + Send + Sync + 'static> Drop for AsyncFd<T> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<T: AsFd + Send + Sync + 'static> AsFd for AsyncFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.io.as_fd()
    }
}

impl<T: AsFd + Send + Sync + fmt::Debug + 'static> fmt::Debug for AsyncFd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncFd").field(&self.shared.io).finish()
    }
}

/// One who waits for a direction of a descriptor, and is taken off the list when dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a, T: AsFd + Send + Sync + 'static> {
    fd: &'a AsyncFd<T>,
    direction: Direction,
    /// The registration that was polled last.
    home: Token,
    /// The place among those who wait there.
    key: Option<WaiterKey>,
}

impl<'a, T: AsFd + Send + Sync + 'static> Waiter<'a, T> {
    pub(crate) fn new(fd: &'a AsyncFd<T>, direction: Direction) -> Waiter<'a, T> {
        Waiter { fd, direction, home: NOWHERE, key: None }
    }

    /// Polls for an operation: see [`AsyncFd::async_io`].
    pub(crate) fn poll_io<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_attempt(cx, |io| Ok((operation(io)?, Tried::Done)))
    }

    /// Polls for an operation: see [`AsyncFd::async_attempt`].
    #[inline]
    pub(crate) fn poll_attempt<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<(R, Tried)>,
    ) -> Poll<io::Result<R>> {
        loop {
            let is_registered = ready!(self.poll_home(cx))?;
            match self.fd.try_attempt(self.direction, &mut operation) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            if !is_registered {
                let home = self.fd.register()?;
                with_reactor(|reactor| reactor.clear_ready(home, self.direction))?;
            }
            // Now it is known to block, so the next round waits.
        }
    }

    /// Performs an operation now: see [`AsyncFd::try_io`].
    pub(crate) fn try_now<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.fd.try_io(self.direction, operation)
    }

    /// Polls for readiness: see [`AsyncFd::ready`].
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !ready!(self.poll_home(cx))? {
            self.fd.register()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives its place back, on whatever loop it is.
    #[cold]
    #[inline(never)]
    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            forget_waiter(self.home, self.direction, key);
        }
    }

    /// Notes that it has moved: its place is in the list of another loop, or of this one if the
    /// descriptor was used elsewhere in the meantime.
    #[inline]
    fn move_to(&mut self, home: Token) {
        if self.key.is_some() {
            self.leave();
        }
        self.home = home;
    }

    /// Polls until an operation is worth trying; false if the running loop does not know the
    /// descriptor.
    #[inline]
    fn poll_home(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let home = self.fd.shared.homes.latest();
            if self.home != home {
                self.move_to(home);
            }
            let is_registered = ready!(poll_source(home, self.direction, &mut self.key, cx))?;
            if is_registered || !self.fd.come_home()? {
                return Poll::Ready(Ok(is_registered));
            }
        }
    }
}

impl<T: AsFd + Send + Sync + 'static> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.leave();
        }
    }
}

/// Future of [`AsyncFd::async_attempt`].
struct Attempt<'a, T: AsFd + Send + Sync + 'static, F> {
    waiter: Waiter<'a, T>,
    operation: F,
}

// The operation is only ever called, never pinned.
impl<T: AsFd + Send + Sync + 'static, F> Unpin for Attempt<'_, T, F> {}

impl<T, F, R> Future for Attempt<'_, T, F>
where
    T: AsFd + Send + Sync + 'static,
    F: FnMut(&T) -> io::Result<(R, Tried)>,
{
    type Output = io::Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let Attempt { waiter, operation } = &mut *self;
        waiter.poll_attempt(cx, operation)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::pin::pin;

    use polyloop_executor::{Runtime, with_reactor};

    use super::*;

    /// Polls once.
    async fn poll_once(future: Pin<&mut impl Future<Output = io::Result<()>>>) {
        let mut future = future;
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }

    fn n_waiters(runtime: &Runtime) -> usize {
        let count = async { with_reactor(|reactor| reactor.waiters().count()) };
        runtime.block_on(count).unwrap().unwrap()
    }

    #[test]
    fn a_stream_that_two_loops_poll_in_turn_keeps_one_waker_for_each_waiter() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = AsyncFd::new(stream).unwrap();
        let (one, two) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let block = |_: &UnixStream| Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let mut first = pin!(stream.async_io(Direction::Read, block));
        let mut second = pin!(stream.async_io(Direction::Read, block));
        for _ in 0..1_000 {
            one.block_on(poll_once(first.as_mut())).unwrap();
            two.block_on(poll_once(second.as_mut())).unwrap();
        }
        assert_eq!((n_waiters(&one), n_waiters(&two)), (1, 1));
    }

    #[test]
    fn a_future_that_goes_from_loop_to_loop_leaves_no_waker_behind() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = AsyncFd::new(stream).unwrap();
        let (one, two) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let block = |_: &UnixStream| Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let mut future = Box::pin(stream.async_io(Direction::Read, block));
        for _ in 0..1_000 {
            one.block_on(poll_once(future.as_mut())).unwrap();
            two.block_on(poll_once(future.as_mut())).unwrap();
        }
        // A loop reads its mail in its next turn.
        let turn = |runtime: &Runtime| {
            runtime.block_on(polyloop_executor::yield_now()).unwrap();
            n_waiters(runtime)
        };
        assert_eq!((turn(&one), turn(&two)), (0, 1));
        // Dropped where no loop runs.
        drop(future);
        assert_eq!((turn(&one), turn(&two)), (0, 0));
    }
}
