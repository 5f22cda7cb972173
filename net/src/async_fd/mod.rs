//! [`AsyncFd`]: async operations on file descriptors. The only place that tries an operation, waits, and tries again.

mod registrations;

mod waiter;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use polyloop_executor::{Tried, current_loop, note_io, release_source, with_reactor};
use polyloop_reactor::socket::{Kind, blocking_standard_streams, kind_of};
use polyloop_reactor::{Direction, Token, Watched};
use socket2::SockRef;

use self::registrations::{Registrations, UNREGISTERED};
use self::waiter::Attempt;

pub(crate) use self::waiter::Waiter;

/// Makes a pollable file descriptor awaitable: a socket, a pipe, an eventfd, a terminal.
///
/// `AsyncFd` owns the object with the descriptor. It tries an operation first, and registers the descriptor with the
/// running loop when an operation would block for the first time. It unregisters the descriptor before closing it.
///
/// # Several loops
/// An `AsyncFd` belongs to no loop: it registers with each loop that it is used on. So a socket can be
/// moved from loop to loop, and several loops can share one listener. A loop that it is no longer used on drops
/// its registration at the next event.
///
/// # Drop
/// When an `AsyncFd` is dropped on the thread of its loop, the `T` is dropped immediately, and a panic of its
/// destructor propagates to the caller. When it is dropped on another thread, its loop drops the `T` in its next
/// turn, and a panic is caught after the panic hook has reported it.
///
/// # Non-blocking mode
/// `O_NONBLOCK` is a property of the open file description, which duplicates of a descriptor share, also in other
/// processes. If another owner clears it, as a program may that inherits a socket as its standard input,
/// an operation that is not ready blocks the loop. Give such a program a separate descriptor, such as one end of a
/// socket pair.
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
///
/// # References
/// tokio's `AsyncFd` and async-io's `Async`.
#[doc(alias = "add_reader")]
#[doc(alias = "add_writer")]
pub struct AsyncFd<T: AsFd + Send + Sync + 'static> {
    shared: Arc<Shared<T>>,
}

/// Shared by the `AsyncFd` and the reactors of the loops that it is registered with.
///
/// The order of the fields puts the two that every operation needs side by side: the latest registration and the
/// descriptor.
#[repr(C)]
struct Shared<T> {
    registrations: Registrations,
    io: T,
    /// Whether an operation that transfers less than requested proves that the next one would block.
    short_is_proof: bool,
}

impl<T: AsFd> AsFd for Shared<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd + Send + Sync> Watched for Shared<T> {
    fn is_latest(&self, token: Token) -> bool {
        self.registrations.latest() == token
    }

    fn short_is_proof(&self) -> bool {
        self.short_is_proof
    }
}

impl<T: AsFd + Send + Sync + 'static> AsyncFd<T> {
    /// Creates an `AsyncFd`, and sets the descriptor to non-blocking mode.
    ///
    /// # Errors
    /// Returns [`InvalidInput`](io::ErrorKind::InvalidInput) for:
    /// - Regular files and directories. They always count as ready, and yet reading them may block. Use
    ///   [`spawn_blocking`](polyloop_executor::spawn_blocking) for them.
    /// - A terminal, pipe or other device that is in blocking mode and is also a standard stream of this process,
    ///   under any number. Its mode is shared with other programs, such as the shell, whose reads and writes
    ///   would fail. Open the terminal again instead.
    ///
    /// Sockets are accepted even as standard streams: a daemon that has closed its standard streams may receive the
    /// numbers 0 to 2 for its sockets, and inetd passes a connection as all three.
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

    /// Creates an `AsyncFd` for a descriptor that is in non-blocking mode already.
    ///
    /// The mode is not checked: in blocking mode, operations block the loop.
    pub fn from_nonblocking(io: T) -> AsyncFd<T> {
        // Only the sockets of this crate report short transfers, and for their kinds that is proof.
        AsyncFd::of_kind(io, true)
    }

    fn of_kind(io: T, short_is_proof: bool) -> AsyncFd<T> {
        AsyncFd {
            shared: Arc::new(Shared { io, registrations: Registrations::new(), short_is_proof }),
        }
    }

    /// Returns a reference to the object with the descriptor.
    pub fn get_ref(&self) -> &T {
        &self.shared.io
    }

    /// Unregisters the descriptor and returns the object.
    ///
    /// # Errors
    /// Returns the `AsyncFd` if a loop of another thread has the descriptor registered. That loop drops the
    /// registration in its next turn.
    pub fn into_inner(self) -> Result<T, AsyncFd<T>> {
        self.release();
        let shared = Arc::clone(&self.shared);
        drop(self);
        Arc::try_unwrap(shared).map(|shared| shared.io).map_err(|shared| AsyncFd { shared })
    }

    /// Performs an operation, waiting until it does not block.
    ///
    /// `operation` is called immediately, unless the descriptor is known not to be ready, and again each time it
    /// becomes ready, until it returns something other than
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). An [`Interrupted`](io::ErrorKind::Interrupted) operation is
    /// repeated.
    ///
    /// `WouldBlock` must mean that every operation in this direction would block. If several tasks wait in the
    /// same direction, an event wakes the one that has waited longest, and its result counts for all. For an operation
    /// of another kind, such as reading a socket's error queue, use a second `AsyncFd` with a duplicate of the
    /// descriptor.
    ///
    /// # Errors
    /// Returns the errors of `operation`. Also returns an error if no loop is running on this thread, or if
    /// the loop's selector cannot watch the descriptor: select refuses numbers at or above `FD_SETSIZE` (1,024).
    ///
    /// # Cancel safety
    /// Nothing is lost: `operation` is not called after the future is dropped, and a call that succeeds completes
    /// the future.
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

    /// Performs an operation as [`async_io`](AsyncFd::async_io) does. The operation also returns whether it proves
    /// that the next one would block.
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

    /// Waits until the descriptor is ready in `direction`.
    ///
    /// Readiness may be a false positive. Perform the operation with [`try_io`](AsyncFd::try_io), which
    /// clears the readiness on `WouldBlock`, so that the next call waits.
    ///
    /// # Errors
    /// Returns an error if no loop is running on this thread, or if the loop's selector cannot watch the descriptor.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub fn ready(&self, direction: Direction) -> impl Future<Output = io::Result<()>> {
        let mut waiter = Waiter::new(self, direction);
        poll_fn(move |cx| waiter.poll_ready(cx))
    }

    /// Performs an operation without waiting, and clears the descriptor's readiness if it would block.
    ///
    /// # Errors
    /// Returns the errors of `operation`, including [`WouldBlock`](io::ErrorKind::WouldBlock).
    pub fn try_io<R>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.try_attempt(direction, |io| Ok((operation(io)?, Tried::Done)))
    }

    /// Performs an operation as [`try_io`](AsyncFd::try_io) does. The operation also returns whether it proves that
    /// the next one would block.
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
            note_io(self.shared.registrations.latest(), direction, tried);
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Finds an earlier registration with the running loop and makes it the latest. Returns whether there is one.
    #[cold]
    fn find_registration(&self) -> io::Result<bool> {
        if self.shared.registrations.latest() == UNREGISTERED {
            return Ok(false);
        }
        let Some(here) = current_loop() else { return Ok(false) };
        let Some(token) = self.shared.registrations.other_on(here) else { return Ok(false) };
        let is_registered = with_reactor(|reactor| reactor.contains(token))?;
        if is_registered {
            self.shared.registrations.set_latest(token);
        }
        Ok(is_registered)
    }

    /// Registers with the running loop.
    fn register(&self) -> io::Result<Token> {
        if !with_reactor(|reactor| reactor.refuses_files())? {
            // The selector would accept a regular file and report it as always ready.
            check_pollable(self.as_fd())?;
        }
        let io: Arc<dyn Watched> = Arc::clone(&self.shared) as Arc<dyn Watched>;
        let registered = with_reactor(|reactor| reactor.register(io))?;
        let token = registered.map_err(|error| match check_pollable(self.as_fd()) {
            Err(clearer) => clearer,
            Ok(()) => error,
        })?;
        self.shared.registrations.set_latest(token);
        Ok(token)
    }

    /// Releases the registrations with all loops.
    fn release(&self) {
        if self.shared.registrations.latest() != UNREGISTERED {
            for token in self.shared.registrations.take() {
                release_source(token);
            }
        }
    }
}

/// Refuses descriptors without readiness events.
fn check_pollable(fd: BorrowedFd<'_>) -> io::Result<()> {
    check_kind(kind_of(fd)?)
}

fn check_kind(kind: Kind) -> io::Result<()> {
    if kind != Kind::File {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "a regular file has no readiness events: use `spawn_blocking` to read or write it",
    ))
}

/// Takes the object out of an `AsyncFd`, or duplicates its descriptor while another loop still has it registered.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use polyloop_executor::{Runtime, with_reactor};

    use super::*;

    /// Polls once; the future must be pending.
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
    fn a_stream_that_two_loops_poll_in_turn_keeps_one_waker_per_waiter() {
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
    fn a_future_that_moves_between_loops_leaves_no_waker_behind() {
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = AsyncFd::new(stream).unwrap();
        let (one, two) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let block = |_: &UnixStream| Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let mut future = Box::pin(stream.async_io(Direction::Read, block));
        for _ in 0..1_000 {
            one.block_on(poll_once(future.as_mut())).unwrap();
            two.block_on(poll_once(future.as_mut())).unwrap();
        }
        // A loop handles messages in its next turn.
        let turn = |runtime: &Runtime| {
            runtime.block_on(polyloop_executor::yield_now()).unwrap();
            n_waiters(runtime)
        };
        assert_eq!((turn(&one), turn(&two)), (0, 1));
        // Dropped while no loop runs.
        drop(future);
        assert_eq!((turn(&one), turn(&two)), (0, 0));
    }
}
