//! The watched descriptors in slots, and their model.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::model::{EndId, Model};
use crate::script::{Kind, N_SLOTS};

/// The numbers of a script's descriptors are below this.
const MANY: usize = 200;

pub(crate) struct World {
    pub(crate) slots: Vec<Slot>,
    pub(crate) model: Model,
    /// How long the network may take to deliver.
    pub(crate) time_limit: Duration,
    listener: TcpListener,
}

pub(crate) enum Slot {
    Empty,
    Open {
        file: File,
        end: EndId,
    },
    /// The descriptor was closed while it was registered; its number is kept free.
    Grave {
        number: RawFd,
        end: EndId,
    },
}

impl World {
    pub(crate) fn new(time_limit: Duration) -> World {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        deliver_at_once(&SockRef::from(&listener));
        let slots = (0..N_SLOTS).map(|_| Slot::Empty).collect();
        World { slots, model: Model::default(), time_limit, listener }
    }

    pub(crate) fn is_empty(&self, slot: usize) -> bool {
        matches!(self.slots[slot], Slot::Empty)
    }

    pub(crate) fn file(&self, slot: usize) -> Option<(&File, EndId)> {
        match &self.slots[slot] {
            Slot::Open { file, end } => Some((file, *end)),
            _ => None,
        }
    }

    /// Describes a slot.
    pub(crate) fn describe(&self, slot: usize) -> String {
        match &self.slots[slot] {
            Slot::Open { end, .. } => format!("slot {slot} ({:?})", self.model.kind(*end)),
            Slot::Grave { .. } => format!("slot {slot} (closed)"),
            Slot::Empty => format!("slot {slot} (empty)"),
        }
    }

    /// Creates a pair, the reading end first.
    pub(crate) fn open(&mut self, slot: usize, other: usize, kind: Kind) {
        let (one, two): (OwnedFd, OwnedFd) = match kind {
            Kind::Unix => {
                let (one, two) = UnixStream::pair().expect("a pair can be created");
                (one.into(), two.into())
            }
            Kind::Pipe => {
                let (reader, writer) = std::io::pipe().expect("a pipe can be created");
                (reader.into(), writer.into())
            }
            Kind::Tcp => {
                let address = self.listener.local_addr().expect("a bound socket has an address");
                let one = TcpStream::connect(address).expect("the listener exists");
                let (two, _) = self.listener.accept().expect("a connection is waiting");
                for end in [&one, &two] {
                    end.set_nodelay(true).expect("nodelay can be set");
                    deliver_at_once(&SockRef::from(end));
                }
                (one.into(), two.into())
            }
            Kind::Udp => {
                let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
                let (one, two) = (bind(), bind());
                let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
                one.connect(address(&two)).expect("datagram sockets connect at once");
                two.connect(address(&one)).expect("datagram sockets connect at once");
                (one.into(), two.into())
            }
        };
        let (end, other_end) = self.model.open(kind);
        for (slot, fd, end) in [(slot, one, end), (other, two, other_end)] {
            let file = self.away_from_graves(File::from(fd));
            // This calls fcntl, which also works for pipes.
            SockRef::from(&file).set_nonblocking(true).expect("a descriptor can be non-blocking");
            self.slots[slot] = Slot::Open { file, end };
        }
    }

    pub(crate) fn duplicate(&mut self, slot: usize, to: usize) {
        let Some((file, end)) = self.file(slot) else { return };
        let copy = self.away_from_graves(file.try_clone().expect("a descriptor is free"));
        self.model.duplicated(end);
        self.slots[to] = Slot::Open { file: copy, end };
    }

    /// Closes a descriptor, and keeps a grave on request.
    pub(crate) fn close(&mut self, slot: usize, leave_grave: bool) {
        let Slot::Open { file, end } = std::mem::replace(&mut self.slots[slot], Slot::Empty) else {
            return;
        };
        if leave_grave {
            self.slots[slot] = Slot::Grave { number: file.as_raw_fd(), end };
        }
        drop(file);
        self.model.closed(end);
    }

    /// Gives the number of a grave to a duplicate of `from`, or to a file that is not registered.
    pub(crate) fn next_owner(&self, number: RawFd, from: Option<&File>) -> File {
        // The system assigns the lowest free number.
        let mut fillers = Vec::new();
        loop {
            let file = match from {
                Some(file) => file.try_clone(),
                None => File::open("/dev/null"),
            };
            let file = file.expect("a descriptor is free");
            if file.as_raw_fd() == number {
                return file;
            }
            fillers.push(file);
            assert!(fillers.len() < MANY, "another file took number {number}");
        }
    }

    fn away_from_graves(&self, mut file: File) -> File {
        let mut fillers = Vec::new();
        while self.is_grave(file.as_raw_fd()) {
            let copy = file.try_clone().expect("a descriptor is free");
            fillers.push(std::mem::replace(&mut file, copy));
        }
        file
    }

    fn is_grave(&self, fd: RawFd) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Grave { number, .. } if *number == fd))
    }

    pub(crate) fn write(&mut self, slot: usize, n_bytes: usize) {
        let Some((mut file, end)) = self.file(slot) else { return };
        if !self.model.may_write(end) {
            return;
        }
        match file.write(&vec![b'x'; n_bytes]) {
            Ok(n_bytes) => self.model.wrote(end, n_bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.model.tried(end),
            Err(_) => self.model.failed(end),
        }
    }

    pub(crate) fn fill(&mut self, slot: usize) {
        let Some((mut file, end)) = self.file(slot) else { return };
        if !self.model.may_fill(end) {
            return;
        }
        let bytes = [b'x'; 4_096];
        let mut n_bytes = 0;
        let error = loop {
            match file.write(&bytes) {
                Ok(n_written) => n_bytes += n_written,
                Err(error) => break error,
            }
        };
        let would_block = error.kind() == ErrorKind::WouldBlock;
        if n_bytes > 0 {
            self.model.wrote(end, n_bytes);
        }
        if would_block { self.model.filled(end) } else { self.model.failed(end) }
    }

    /// Reads, and returns the number of bytes.
    pub(crate) fn read(&mut self, slot: usize, n_bytes: usize) -> usize {
        let Some((mut file, end)) = self.file(slot) else { return 0 };
        let Some(n_ready) = self.model.readable(end, n_bytes) else { return 0 };
        let is_datagram = self.model.kind(end) == Kind::Udp;
        let mut bytes = vec![0; if is_datagram { 1_024 } else { n_bytes }];
        let deadline = Instant::now() + self.time_limit;
        let mut n_read = 0;
        let mut has_failed = false;
        loop {
            match file.read(&mut bytes[n_read..]) {
                Ok(n) if is_datagram => n_read = n.max(1),
                Ok(n) => {
                    n_read += n;
                    if n > 0 && n_read < n_ready {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The network may deliver later than the model expects.
                    if n_read < n_ready && Instant::now() < deadline {
                        std::thread::yield_now();
                        continue;
                    }
                }
                Err(_) => has_failed = true,
            }
            break;
        }
        match n_read {
            0 => self.model.tried(end),
            n_read => self.model.read(end, n_read),
        }
        if has_failed {
            self.model.failed(end);
        }
        n_read
    }

    pub(crate) fn drain(&mut self, slot: usize) {
        const ENOUGH: usize = 1 << 20;
        let Some((_, end)) = self.file(slot) else { return };
        while self.read(slot, ENOUGH) > 0
            && self.model.readable(end, ENOUGH).is_some_and(|n_ready| n_ready > 0)
        {}
    }

    pub(crate) fn shut(&mut self, slot: usize, how: Shutdown) {
        let Some((file, end)) = self.file(slot) else { return };
        if matches!(self.model.kind(end), Kind::Unix | Kind::Tcp) {
            // It takes effect even if the system reports that the connection has already ended.
            let _ = SockRef::from(file).shutdown(how);
            self.model.shut(end, how);
        }
    }

    pub(crate) fn urge(&mut self, slot: usize) {
        let Some((file, end)) = self.file(slot) else { return };
        if self.model.may_urge(end) {
            SockRef::from(file).send_out_of_band(b"!").expect("the buffer has space");
            self.model.urged(end);
        }
    }

    pub(crate) fn take_urgent(&mut self, slot: usize) {
        let Some((file, end)) = self.file(slot) else { return };
        if self.model.may_take_urgent(end) {
            let mut byte = [std::mem::MaybeUninit::uninit()];
            SockRef::from(file).recv_out_of_band(&mut byte).expect("the byte has arrived");
            self.model.took_urgent(end);
        }
    }
}

/// Selects a congestion control without pacing, where that is possible, so that data sent over the loopback has
/// arrived when the call returns.
fn deliver_at_once(socket: &SockRef<'_>) {
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    {
        // If the system lacks it, the test only takes longer.
        let _ = socket.set_tcp_congestion(b"reno");
    }
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let _ = socket;
}
