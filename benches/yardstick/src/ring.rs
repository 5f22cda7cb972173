//! A completion ring (io_uring) for datagrams: just enough for a small server.
//!
//! Each socket has one buffer, which belongs to the kernel while an operation is in progress.

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};

/// The lowest bit of an operation's number is set for a send.
const SEND: u64 = 1;

/// Runs operations on connected datagram sockets and reports their completion.
pub struct Ring {
    uring: IoUring,
    places: Vec<Place>,
    n_enters: u64,
}

struct Place {
    socket: UdpSocket,
    /// Invariant: never moved or freed while `busy`; the kernel has its address.
    buffer: Box<[u8]>,
    busy: bool,
}

impl Ring {
    /// Opens a ring for up to `n_sockets` sockets.
    ///
    /// # Errors
    /// An error if a sandbox refuses io_uring.
    pub fn new(n_sockets: usize) -> io::Result<Ring> {
        // Two operations may be requested of each socket at once.
        let uring = IoUring::new((2 * n_sockets).next_power_of_two() as u32).map_err(|error| {
            io::Error::new(error.kind(), format!("io_uring is refused: {error}"))
        })?;
        Ok(Ring { uring, places: Vec::with_capacity(n_sockets), n_enters: 0 })
    }

    /// Adds a socket with a buffer of `n_bytes`, and returns its number.
    pub fn add(&mut self, socket: UdpSocket, n_bytes: usize) -> usize {
        self.places.push(Place { socket, buffer: vec![0; n_bytes].into(), busy: false });
        self.places.len() - 1
    }

    /// Returns the socket's buffer.
    ///
    /// # Panics
    /// Panics if the kernel has it.
    pub fn buffer_mut(&mut self, number: usize) -> &mut [u8] {
        let place = &mut self.places[number];
        assert!(!place.busy, "the buffer belongs to the kernel");
        &mut place.buffer
    }

    /// Requests a datagram.
    ///
    /// # Panics
    /// Panics if an operation of the socket is in progress.
    pub fn receive(&mut self, number: usize) {
        let entry = self.begin_receive(number);
        self.push(&[entry]);
    }

    /// Requests that the first `n_bytes` of the buffer are sent and then another datagram is received. Only the
    /// receive is reported, unless there is an error.
    ///
    /// # Panics
    /// Panics if an operation of the socket is in progress.
    pub fn answer(&mut self, number: usize, n_bytes: usize) {
        let receive = self.begin_receive(number);
        let place = &self.places[number];
        let fd = types::Fd(place.socket.as_raw_fd());
        let n_bytes = place.buffer[..n_bytes].len() as u32;
        let send = opcode::Send::new(fd, place.buffer.as_ptr(), n_bytes);
        // In this order: they use one buffer.
        let mut flags = Flags::IO_LINK;
        if self.uring.params().is_feature_skip_cqe_on_success() {
            flags |= Flags::SKIP_SUCCESS;
        }
        self.push(&[send.build().flags(flags).user_data((number as u64) << 1 | SEND), receive]);
    }

    /// Waits for datagrams, and fills `received` with the number of each socket that has one and
    /// its length.
    ///
    /// # Errors
    /// The error of the ring or of an operation.
    pub fn turn(&mut self, received: &mut Vec<(usize, usize)>) -> io::Result<()> {
        received.clear();
        while received.is_empty() {
            self.n_enters += 1;
            match self.uring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            for completion in self.uring.completion() {
                let number = (completion.user_data() >> 1) as usize;
                let is_receive = completion.user_data() & SEND == 0;
                if is_receive {
                    self.places[number].busy = false;
                }
                let n_bytes = usize::try_from(completion.result())
                    .map_err(|_| io::Error::from_raw_os_error(-completion.result()))?;
                if is_receive {
                    received.push((number, n_bytes));
                }
            }
        }
        Ok(())
    }

    /// Returns the number of system calls.
    pub fn n_enters(&self) -> u64 {
        self.n_enters
    }

    fn begin_receive(&mut self, number: usize) -> Entry {
        let place = &mut self.places[number];
        assert!(!place.busy, "an operation is under way");
        place.busy = true;
        let fd = types::Fd(place.socket.as_raw_fd());
        let (buffer, n_bytes) = (place.buffer.as_mut_ptr(), place.buffer.len() as u32);
        opcode::Recv::new(fd, buffer, n_bytes).build().user_data((number as u64) << 1)
    }

    fn push(&mut self, entries: &[Entry]) {
        // SAFETY: socket and buffer of each entry live in `places`, where they stay until the
        // receive that ends the operation is reported: `busy` guards the buffer, nothing removes a
        // place, and `drop` leaks those that are still busy.
        let result = unsafe { self.uring.submission().push_multiple(entries) };
        result.expect("there is room for two operations of each socket");
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may write into a busy buffer until some time after the ring is closed.
        for place in self.places.drain(..).filter(|place| place.busy) {
            mem::forget(place);
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ring { places, n_enters, .. } = self;
        let (n_sockets, n_busy) = (places.len(), places.iter().filter(|place| place.busy).count());
        write!(f, "Ring {{ {n_sockets} sockets, {n_busy} busy, {n_enters} enters }}")
    }
}
