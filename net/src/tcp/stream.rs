//! A connection.

use std::io::{self, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use polyloop_reactor::{Direction, connect_goes_on};
use socket2::{Domain, Protocol, Socket, Type};

use super::split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::AsyncFd;
use crate::addr::{ToAddrs, resolve};

/// A TCP connection.
///
/// All methods take `&self`: one task may read while another writes. Several tasks may even wait
/// for the same direction; each is woken, and one gets the data.
///
/// Writing to a connection that the peer has closed is an error, never a `SIGPIPE`.
///
/// # Examples
/// ```
/// use polyloop_net::{TcpListener, TcpStream};
///
/// # polyloop_executor::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
///
/// client.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// server.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct TcpStream {
    fd: AsyncFd<net::TcpStream>,
}

impl TcpStream {
    /// Connects to the first of the addresses that answers.
    ///
    /// A name in place of an address is looked up on the blocking pool.
    ///
    /// # Errors
    /// What the system says of the last address; of a name that cannot be looked up, which.
    ///
    /// # Cancel safety
    /// The connection is given up.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
    pub async fn connect(addr: impl ToAddrs) -> io::Result<TcpStream> {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to");
        let mut result = Err(nothing);
        for addr in resolve(addr).await? {
            result = connect_one(addr).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Takes a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(stream: net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream { fd: AsyncFd::new(stream)? })
    }

    pub(super) fn from_nonblocking(stream: net::TcpStream) -> TcpStream {
        TcpStream { fd: AsyncFd::from_nonblocking(stream) }
    }

    /// Reads what is there, up to the size of `buf`, waiting for the first byte.
    ///
    /// Returns the number of bytes; zero says that the peer will send no more (or that `buf` is
    /// empty).
    ///
    /// # Errors
    /// What the system says, such as [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let size = buf.len();
        let read = self.fd.async_io(Direction::Read, |mut stream| stream.read(buf)).await?;
        self.note_moved(Direction::Read, read, size);
        Ok(read)
    }

    /// Reads until `buf` is full.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the peer ends before that; what the
    /// system says.
    ///
    /// # Cancel safety
    /// What was read stays in `buf`, but how much is not told: to be able to go on, loop over
    /// [`read`](TcpStream::read).
    pub async fn read_exact(&self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read(buf).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => buf = &mut buf[read..],
            }
        }
        Ok(())
    }

    /// Reads like [`read`](TcpStream::read), but leaves the data to be read again.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.async_io(Direction::Read, |stream| stream.peek(buf)).await
    }

    /// Writes as much of `buf` as there is room for, waiting for the first byte's.
    ///
    /// # Errors
    /// What the system says, such as [`BrokenPipe`](io::ErrorKind::BrokenPipe).
    ///
    /// # Cancel safety
    /// Nothing was written if the future is dropped before it is ready.
    pub async fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let written = self.fd.async_io(Direction::Write, |mut stream| stream.write(buf)).await?;
        self.note_moved(Direction::Write, written, buf.len());
        Ok(written)
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// What the system says; how much was written before is not told.
    ///
    /// # Cancel safety
    /// Part of `buf` may have been written, and how much is not told: to be able to go on, loop
    /// over [`write`](TcpStream::write).
    pub async fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.write(buf).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => buf = &buf[written..],
            }
        }
        Ok(())
    }

    /// Waits until a read is worth trying.
    ///
    /// With [`try_read`](TcpStream::try_read) a connection needs no buffer while nothing is there
    /// to be read.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Read).await
    }

    /// Waits until a write is worth trying.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Write).await
    }

    /// Reads what is there now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is; what the system says.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let size = buf.len();
        let read = self.fd.try_io(Direction::Read, |mut stream| stream.read(buf))?;
        self.note_moved(Direction::Read, read, size);
        Ok(read)
    }

    /// Writes what there is room for now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; what the system says.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let written = self.fd.try_io(Direction::Write, |mut stream| stream.write(buf))?;
        self.note_moved(Direction::Write, written, buf.len());
        Ok(written)
    }

    /// Closes one direction or both, for all who share the connection.
    ///
    /// Closing for writing tells the peer that no more will come; what was written before still
    /// arrives. Closing what is closed already is fine.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// [shutdown(2)](https://man7.org/linux/man-pages/man2/shutdown.2.html).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.fd.get_ref().shutdown(how) {
            // The peer has reset the connection: there is nothing left to close.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Sends small writes at once (true) or collects them (false, the system's default).
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// `TCP_NODELAY` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.fd.get_ref().set_nodelay(nodelay)
    }

    /// Reports whether small writes are sent at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.fd.get_ref().nodelay()
    }

    /// Returns this side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Returns the other side's address.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected) once the peer has reset the connection.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().peer_addr()
    }

    /// Takes the error that is pending on the socket, if there is one.
    ///
    /// # Errors
    /// What the system says of the question itself.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.fd.get_ref().take_error()
    }

    /// Lends the two directions to two pieces of code.
    pub fn split(&self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf::new(self), WriteHalf::new(self))
    }

    /// Splits the connection into two directions that can go to two tasks, or to two loops.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        super::split::split(self)
    }

    /// Notes how much of what was asked for was moved.
    ///
    /// Less than asked says that the next try would block. Zero is the end of the stream, which
    /// can be read again and again.
    fn note_moved(&self, direction: Direction, moved: usize, asked: usize) {
        if moved > 0 && moved < asked {
            self.fd.note_short(direction);
        }
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

async fn connect_one(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let connecting = socket.connect(&addr.into());
    let stream = TcpStream::from_nonblocking(socket.into());
    match connecting {
        Ok(()) => return Ok(stream),
        Err(error) if connect_goes_on(&error) => {}
        Err(error) => return Err(error),
    }
    // Writable means that it is decided, and the socket's error says how. A socket without error
    // and without peer is still connecting.
    let decided = |stream: &net::TcpStream| match stream.take_error()? {
        Some(error) => Err(error),
        None => match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result.map(drop),
        },
    };
    stream.fd.async_io(Direction::Write, decided).await?;
    Ok(stream)
}
