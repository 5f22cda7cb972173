//! select(2): on every system, up to `FD_SETSIZE` descriptors.
//!
//! Quirks, each with its consequence below:
//! - `FD_SET` beyond `FD_SETSIZE` writes past the set: such a descriptor is refused before any
//!   bit is touched.
//! - One closed descriptor fails the whole call with EBADF, and the ready ones are not reported: the
//!   closed ones are searched for, reported as invalid once and taken out, and the others are
//!   served in the same wait.
//! - The sets are overwritten: each wait works on a copy.
//! - There are three flags only. A hang-up is readable, an error readable and writable, and the
//!   exceptional set means out-of-band data: so that is all that is reported.
//! - If a number is closed and reused for another file while it is registered, the other file is
//!   watched: nothing in the call distinguishes them.
//! - The backend chooses the order of the scan: it starts where the last full batch ended.

mod fd_sets;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::lost::LostDescriptor;
use super::mechanism::{Mechanism, Outcome};
use super::table::{Entry, Table};
use super::wake_up::{LazyWakeUp, WakeUp};
use fd_sets::{CAPACITY, FdSets};

use crate::sys::cvt::{check_open, named};
use crate::sys::os;
use crate::{Backend, Event, Events, Interest, Mode, Notifier, PollableFd, Readiness, SystemCalls};

/// Waits with select(2).
#[derive(Debug)]
pub(super) struct Select {
    /// What the kernel is asked for: armed entries and the wake-up descriptor.
    requested: FdSets,
    /// What it has found.
    found: FdSets,
    /// Invariant: above every bit in `requested`.
    n_fds: usize,
    /// Where the next scan starts.
    cursor: usize,
    wake_up: LazyWakeUp,
    /// Whether the wake-up descriptor is in `requested`.
    is_wake_up_requested: bool,
    calls: SystemCalls,
}

impl Mechanism for Select {
    const BACKEND: Backend = Backend::Select;
    const HAS_EDGES: bool = false;
    const DESCRIPTOR_LIMIT: Option<usize> = Some(CAPACITY);

    type Place = ();

    fn open() -> io::Result<Select> {
        Ok(Select {
            requested: FdSets::default(),
            found: FdSets::default(),
            n_fds: 0,
            cursor: 0,
            wake_up: LazyWakeUp::default(),
            is_wake_up_requested: false,
            calls: SystemCalls::default(),
        })
    }

    #[inline]
    fn check(call: &str, fd: RawFd, _: Interest) -> io::Result<()> {
        if fd as usize >= CAPACITY { Err(out_of_range(call, fd)) } else { Ok(()) }
    }

    #[inline]
    fn add(&mut self, _: &mut Table<()>, fd: RawFd, interest: Interest, _: Mode) -> io::Result<()> {
        self.calls.controls += 1;
        check_open(fd)?;
        self.request(fd as usize, interest);
        Ok(())
    }

    #[inline]
    fn change(
        &mut self,
        _: &mut Entry<()>,
        fd: RawFd,
        interest: Interest,
        _: Mode,
    ) -> io::Result<()> {
        self.requested.remove(fd as usize);
        self.request(fd as usize, interest);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, _: &mut Table<()>, fd: RawFd, _: Entry<()>) -> io::Result<()> {
        self.requested.remove(fd as usize);
        Ok(())
    }

    #[inline]
    fn wait(
        &mut self,
        table: &mut Table<()>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome> {
        if !self.is_wake_up_requested
            && let Some(fd) = self.wake_up.get().map(WakeUp::fd)
        {
            self.request(fd as usize, Interest::READABLE);
            self.is_wake_up_requested = true;
        }
        self.n_fds = self.requested.end(self.n_fds);
        self.calls.waits += 1;
        let sets = self.found.load(&self.requested, self.n_fds);
        // SAFETY: each set is null, or points into `self.found`, has the layout of an `fd_set` (see
        // `FdSet`) and is not used otherwise before the call is over; `n_fds` is at most FD_SETSIZE, since
        // `check` and `notifier` refuse larger numbers.
        match unsafe { os::select(self.n_fds as libc::c_int, sets, timeout) } {
            Ok(Some(n_bits)) => self.collect(table, n_bits, events),
            Ok(None) => Ok(Outcome::Interrupted),
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                self.remove_closed(table, error)?;
                Ok(Outcome::Again)
            }
            Err(error) => Err(named("select")(error)),
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.wake_up.notifier(|| {
            let wake_up = WakeUp::for_levels()?;
            // The next wait puts it into the sets.
            Select::check("notifier", wake_up.fd(), Interest::READABLE)?;
            Ok(wake_up)
        })
    }

    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        // The next wait requests it.
        let wake_up = self.wake_up.get().filter(|_| !self.is_wake_up_requested).map(WakeUp::fd);
        fds.extend(wake_up.map(|fd| PollableFd { fd, interest: Interest::READABLE }));
        let mut from = 0;
        while let Some(fd) = self.requested.next(from, self.n_fds) {
            fds.push(PollableFd { fd: fd as RawFd, interest: self.requested.interest(fd) });
            from = fd + 1;
        }
        Ok(())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

impl Select {
    #[inline]
    fn request(&mut self, fd: usize, interest: Interest) {
        self.requested.insert(fd, interest);
        self.n_fds = self.n_fds.max(fd + 1);
    }

    /// Turns `n_bits` bits into events.
    #[inline]
    fn collect(
        &mut self,
        table: &mut Table<()>,
        n_bits: usize,
        events: &mut Events,
    ) -> io::Result<Outcome> {
        let mut outcome = Outcome::Complete;
        if n_bits == 0 {
            // The sets are as they were filled, or empty, depending on the system.
            return Ok(outcome);
        }
        let mut n_left = n_bits;
        if let Some(wake_up) = self.wake_up.get()
            && self.found.take_readable(wake_up.fd() as usize)
        {
            n_left -= 1;
            if wake_up.drain()? {
                outcome = Outcome::Notified;
            }
        }
        let start = if self.cursor < self.n_fds { self.cursor } else { 0 };
        for range in [start..self.n_fds, 0..start] {
            let mut from = range.start;
            while n_left > 0
                && let Some(fd) = self.found.next(from, range.end)
            {
                if events.is_full() {
                    self.cursor = fd;
                    return Ok(outcome);
                }
                let (readiness, n_sets) = self.found.readiness(fd);
                n_left -= n_sets;
                self.report(table, fd, readiness, events);
                from = fd + 1;
            }
        }
        Ok(outcome)
    }

    fn report(
        &mut self,
        table: &mut Table<()>,
        fd: usize,
        readiness: Readiness,
        events: &mut Events,
    ) {
        let Some(entry) = table.get_mut(fd as RawFd) else { return };
        events.push(Event { token: entry.token, readiness });
        if entry.mode == Mode::OneShot {
            entry.armed = false;
            self.requested.remove(fd);
        }
    }

    /// Takes out the descriptors that made the call fail with `error`, which is EBADF.
    ///
    /// # Errors
    /// [`LostDescriptor`] if the wake-up descriptor is the closed one. If none is closed any more, another
    /// thread has opened a file with the number that was closed, and the call can be repeated.
    #[cold]
    fn remove_closed(&mut self, table: &mut Table<()>, error: io::Error) -> io::Result<()> {
        let armed = table.iter().filter(|(_, entry)| entry.armed);
        let closed: Vec<RawFd> =
            armed.map(|(fd, _)| fd).filter(|&fd| check_open(fd).is_err()).collect();
        for &fd in &closed {
            self.requested.remove(fd as usize);
            table.mark_closed(fd);
        }
        match self.wake_up.get() {
            Some(wake_up) if closed.is_empty() && check_open(wake_up.fd()).is_err() => {
                Err(LostDescriptor::closed(wake_up.fd(), error))
            }
            _ => Ok(()),
        }
    }
}

#[cold]
fn out_of_range(call: &str, fd: RawFd) -> io::Error {
    let message = format!(
        "{call}: fd {fd} is beyond select's limit (FD_SETSIZE, {CAPACITY}): use another backend"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
#[cfg(feature = "conformance")]
mod tests {
    use super::*;
    use crate::sys::selectors::system_selector::SystemSelector;

    /// In a process of its own: a number that was closed by mistake may go to another thread.
    #[test]
    fn a_wait_without_its_own_descriptor_is_an_error_and_does_not_spin() {
        let code = crate::sys::testing::in_forked_child(|| {
            let mut selector = SystemSelector::<Select>::open().unwrap();
            crate::Selector::notifier(&selector).unwrap();
            let fd = selector.mechanism.wake_up.get().unwrap().fd();
            // SAFETY: a number is closed that the selector owns. That is the mistake to be tested;
            // nothing else in this process opens a file.
            unsafe { libc::close(fd) };
            // Ends the process if the call below does not.
            // SAFETY: the call takes a number.
            unsafe { libc::alarm(10) };
            let mut events = Events::with_capacity(8);
            let result =
                crate::Selector::select(&mut selector, &mut events, Some(Duration::from_millis(1)));
            let is_error = result.is_err_and(|error| error.to_string().contains("closed"));
            std::mem::forget(selector);
            is_error
        });
        assert_eq!(code.unwrap(), 0);
    }
}
