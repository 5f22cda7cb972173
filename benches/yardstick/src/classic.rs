//! libevent's benchmark: many pairs of sockets, some of them active, and a byte that is passed from one to the
//! next.
//!
//! A round starts with one byte in each of the active pairs, which are spread evenly. From each pair that
//! is ready one byte is read, and while there are writes left, one byte is written to its successor.
//! So a dispatched event costs one read, one write and its share of a wait, and as many pairs are ready
//! at a time as are active.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use polyloop_reactor::{Backend, Events, Interest, Mode, Selector, SystemCalls, Token};

use crate::bare::{self, Bare};
use crate::clock::thread_time;
use crate::cvt;

/// The largest number of events of one wait, for the selector and for the bare loop.
pub const N_EVENTS: usize = 1_024;

/// The largest number of pairs for select, whose sets end at 1,024. The remaining descriptors are the standard
/// streams, those of the selectors, and others that the program has open.
pub const MAX_SELECT_PAIRS: usize = 1_000;

/// Connected pairs, one end to watch and one to write to.
#[derive(Debug)]
pub struct Pairs {
    readers: Vec<UnixStream>,
    writers: Vec<UnixStream>,
}

impl Pairs {
    /// Opens `n_pairs` pairs. The watched ends take the lowest free numbers, for select.
    ///
    /// # Errors
    /// An error such as `EMFILE` if no descriptor is left.
    pub fn new(n_pairs: usize) -> io::Result<Pairs> {
        let mut pairs = Pairs { readers: Vec::new(), writers: Vec::new() };
        for _ in 0..n_pairs {
            let (reader, writer) = UnixStream::pair()?;
            pairs.readers.push(reader);
            pairs.writers.push(above_select(writer.into())?.into());
        }
        Ok(pairs)
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.readers.len()
    }

    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Returns the ends to watch.
    pub fn readers(&self) -> &[UnixStream] {
        &self.readers
    }
}

/// Moves a descriptor to a number beyond the limit of select.
fn above_select(fd: OwnedFd) -> io::Result<OwnedFd> {
    let above = size_of::<libc::fd_set>() as libc::c_int * 8;
    // SAFETY: the command takes a number and no pointer.
    let moved = cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// The work of one round, the same for a selector and for a bare loop.
struct Round<'a> {
    pairs: &'a Pairs,
    n_writes_left: u64,
    n_unread: u64,
}

impl<'a> Round<'a> {
    fn start(pairs: &'a Pairs, n_active: usize, n_events: u64) -> Round<'a> {
        let n_active = n_active.min(pairs.len());
        for index in 0..n_active {
            write_one(pairs, index * pairs.len() / n_active);
        }
        let n_first = n_active as u64;
        Round { pairs, n_writes_left: n_events.saturating_sub(n_first), n_unread: n_first }
    }

    #[inline]
    fn on_ready(&mut self, index: usize) {
        let mut byte = [0];
        let n_read = (&self.pairs.readers[index]).read(&mut byte).expect("a byte was waiting");
        assert_eq!(n_read, 1, "a pair lost its other end");
        self.n_unread -= 1;
        if self.n_writes_left > 0 {
            self.n_writes_left -= 1;
            self.n_unread += 1;
            let next = index + 1;
            write_one(self.pairs, if next == self.pairs.len() { 0 } else { next });
        }
    }
}

#[inline]
fn write_one(pairs: &Pairs, index: usize) {
    let n_written = (&pairs.writers[index]).write(b"!").expect("an empty pair has room");
    assert_eq!(n_written, 1);
}

/// The cost of a round.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// The processor time of this thread, user and system.
    pub time: Duration,
    /// The number of waits and control calls. Reads and writes, one each for an event, are not counted.
    pub n_calls: u64,
}

/// A selector or a bare loop, with the pairs that it watches.
pub trait Contender {
    /// Watches the readers of all pairs.
    fn watch(&mut self, pairs: &Pairs) -> io::Result<()>;

    /// Stops watching them.
    fn unwatch(&mut self, pairs: &Pairs) -> io::Result<()>;

    /// Dispatches about `n_events` events, `n_active` at a time.
    fn dispatch(&mut self, pairs: &Pairs, n_active: usize, n_events: u64) -> io::Result<Took>;

    /// Waits `n_polls` times with a timeout of zero, while nothing is ready.
    fn poll(&mut self, n_polls: u64) -> io::Result<Took>;

    /// Registers and unregisters `stream`, `n_times`.
    fn register(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took>;

    /// Registers `stream`, changes its interest `n_times`, and unregisters it.
    fn modify(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took>;

    /// Registers `stream`, changes its data `n_times`, and unregisters it.
    ///
    /// A bare loop has no data, and does nothing.
    fn modify_data(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took>;
}

/// A selector as a contender.
#[derive(Debug)]
pub struct Selected {
    selector: Box<dyn Selector>,
    events: Events,
}

impl Selected {
    /// Opens a selector of `backend`.
    pub fn new(backend: Backend) -> io::Result<Selected> {
        Ok(Selected { selector: backend.open()?, events: Events::with_capacity(N_EVENTS) })
    }

    fn n_calls(&self) -> u64 {
        let SystemCalls { waits, controls } = self.selector.system_calls();
        waits + controls
    }

    fn took(&self, began: Duration, n_calls_before: u64) -> Took {
        Took { time: thread_time() - began, n_calls: self.n_calls() - n_calls_before }
    }
}

impl Contender for Selected {
    fn watch(&mut self, pairs: &Pairs) -> io::Result<()> {
        for (index, reader) in pairs.readers.iter().enumerate() {
            let token = Token::from_raw(index as u64);
            self.selector.register(reader.as_fd(), token, Interest::READABLE, Mode::Level)?;
        }
        Ok(())
    }

    fn unwatch(&mut self, pairs: &Pairs) -> io::Result<()> {
        pairs.readers.iter().try_for_each(|reader| self.selector.unregister(reader.as_fd()))
    }

    fn dispatch(&mut self, pairs: &Pairs, n_active: usize, n_events: u64) -> io::Result<Took> {
        let mut round = Round::start(pairs, n_active, n_events);
        let (began, n_calls) = (thread_time(), self.n_calls());
        while round.n_unread > 0 {
            self.selector.select(&mut self.events, None)?;
            for event in &self.events {
                round.on_ready(event.token.raw() as usize);
            }
        }
        Ok(self.took(began, n_calls))
    }

    fn poll(&mut self, n_polls: u64) -> io::Result<Took> {
        let (began, n_calls) = (thread_time(), self.n_calls());
        for _ in 0..n_polls {
            self.selector.select(&mut self.events, Some(Duration::ZERO))?;
            assert!(self.events.is_empty(), "something is ready");
        }
        Ok(self.took(began, n_calls))
    }

    fn register(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took> {
        let (fd, token) = (stream.as_fd(), Token::from_raw(0));
        let (began, n_calls) = (thread_time(), self.n_calls());
        for _ in 0..n_times {
            self.selector.register(fd, token, Interest::READABLE, Mode::Level)?;
            self.selector.unregister(fd)?;
        }
        Ok(self.took(began, n_calls))
    }

    fn modify(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took> {
        let (fd, token) = (stream.as_fd(), Token::from_raw(0));
        let both = Interest::READABLE | Interest::WRITABLE;
        self.selector.register(fd, token, Interest::READABLE, Mode::Level)?;
        let (began, n_calls) = (thread_time(), self.n_calls());
        for number in 0..n_times {
            let interest = if number % 2 == 0 { both } else { Interest::READABLE };
            self.selector.modify(fd, token, interest, Mode::Level)?;
        }
        let took = self.took(began, n_calls);
        self.selector.unregister(fd)?;
        Ok(took)
    }

    fn modify_data(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took> {
        let (fd, interest, mode) = (stream.as_fd(), Interest::READABLE, Mode::Level);
        self.selector.register(fd, Token::from_raw(0), interest, mode)?;
        let (began, n_calls) = (thread_time(), self.n_calls());
        for number in 0..n_times {
            self.selector.modify(fd, Token::from_raw(number), interest, mode)?;
        }
        let took = self.took(began, n_calls);
        self.selector.unregister(fd)?;
        Ok(took)
    }
}

impl<B: Bare> Contender for B {
    fn watch(&mut self, pairs: &Pairs) -> io::Result<()> {
        pairs.readers.iter().try_for_each(|reader| self.add(reader.as_raw_fd()))
    }

    fn unwatch(&mut self, pairs: &Pairs) -> io::Result<()> {
        pairs.readers.iter().rev().try_for_each(|reader| self.remove(reader.as_raw_fd()))
    }

    fn dispatch(&mut self, pairs: &Pairs, n_active: usize, n_events: u64) -> io::Result<Took> {
        let mut round = Round::start(pairs, n_active, n_events);
        let (began, mut n_calls) = (thread_time(), 0);
        while round.n_unread > 0 {
            n_calls += 1;
            self.turn(true, |index| round.on_ready(index))?;
        }
        Ok(Took { time: thread_time() - began, n_calls })
    }

    fn poll(&mut self, n_polls: u64) -> io::Result<Took> {
        let began = thread_time();
        for _ in 0..n_polls {
            self.turn(false, |_| panic!("something is ready"))?;
        }
        Ok(Took { time: thread_time() - began, n_calls: n_polls })
    }

    fn register(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took> {
        let fd = stream.as_raw_fd();
        let began = thread_time();
        for _ in 0..n_times {
            self.add(fd)?;
            self.remove(fd)?;
        }
        let n_calls = if B::HAS_CONTROL_CALLS { 2 * n_times } else { 0 };
        Ok(Took { time: thread_time() - began, n_calls })
    }

    fn modify(&mut self, stream: &UnixStream, n_times: u64) -> io::Result<Took> {
        let fd = stream.as_raw_fd();
        self.add(fd)?;
        let began = thread_time();
        for number in 0..n_times {
            Bare::modify(self, fd, number % 2 == 0)?;
        }
        let time = thread_time() - began;
        self.remove(fd)?;
        let n_calls = if B::HAS_CONTROL_CALLS { n_times } else { 0 };
        Ok(Took { time, n_calls })
    }

    fn modify_data(&mut self, _stream: &UnixStream, _n_times: u64) -> io::Result<Took> {
        Ok(Took { time: Duration::ZERO, n_calls: 0 })
    }
}

/// Opens the bare loop over the mechanism of `backend`, if there is one on this system.
pub fn bare_contender(backend: Backend) -> io::Result<Option<Box<dyn Contender>>> {
    Ok(match backend {
        Backend::Select => Some(Box::new(bare::Select::new())),
        Backend::Poll => Some(Box::new(bare::Poll::new())),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Backend::Epoll => Some(Box::new(bare::Epoll::new(N_EVENTS)?)),
        #[cfg(any(
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "dragonfly",
            target_os = "netbsd",
            target_os = "openbsd",
        ))]
        Backend::Kqueue => Some(Box::new(bare::Kqueue::new(N_EVENTS)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_dispatches_the_requested_number() {
        let pairs = Pairs::new(12).unwrap();
        for &backend in Backend::available() {
            let selected: Box<dyn Contender> = Box::new(Selected::new(backend).unwrap());
            for mut contender in
                [Some(selected), bare_contender(backend).unwrap()].into_iter().flatten()
            {
                contender.watch(&pairs).unwrap();
                contender.dispatch(&pairs, 1, 100).unwrap();
                let took = contender.dispatch(&pairs, 5, 100).unwrap();
                // Five are ready at a time, and a selector may check one now and then.
                assert!((20..25).contains(&took.n_calls), "{backend}: {took:?}");
                assert_eq!(contender.poll(10).unwrap().n_calls, 10);
                contender.unwatch(&pairs).unwrap();
                contender.register(&pairs.readers()[0], 10).unwrap();
                contender.modify(&pairs.readers()[0], 10).unwrap();
                contender.poll(1).unwrap();
            }
        }
    }

    #[test]
    fn select_has_room_for_the_largest_number_of_pairs() {
        let mut contender = Selected::new(Backend::Select).unwrap();
        let mut bare = bare_contender(Backend::Select).unwrap().unwrap();
        let pairs = Pairs::new(500).unwrap();
        contender.watch(&pairs).unwrap();
        bare.watch(&pairs).unwrap();
        let reader_fds = pairs.readers().iter().map(AsRawFd::as_raw_fd);
        assert!(reader_fds.max().unwrap() < 500 + 100);
    }
}
