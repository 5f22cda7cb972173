//! The contract of [`Selector`], implemented once for all mechanisms.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::{
    Backend, Events, Interest, Mode, Notifier, PollableFd, Registration, Selector, SystemCalls,
    Token, WaitEnd,
};

use super::mechanism::{Mechanism, Outcome};
use super::table::Table;
use super::wait::Wait;
use crate::sys::fork::ForkGuard;

/// Keeps the registrations of a [`Mechanism`], checks arguments, and turns kernel waits into one wait.
#[derive(Debug)]
pub(super) struct SystemSelector<M: Mechanism> {
    pub(super) mechanism: M,
    table: Table<M::Place>,
    fork: ForkGuard,
}

impl<M: Mechanism> SystemSelector<M> {
    pub(super) fn open() -> io::Result<SystemSelector<M>> {
        let fork = ForkGuard::new();
        Ok(SystemSelector { mechanism: M::open()?, table: Table::new(), fork })
    }
}

impl<M: Mechanism> Selector for SystemSelector<M> {
    fn backend(&self) -> Backend {
        M::BACKEND
    }

    fn supports(&self, mode: Mode) -> bool {
        mode != Mode::Edge || M::HAS_EDGES
    }

    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        check_mode::<M>("register", fd, mode)?;
        M::check("register", fd, interest)?;
        self.table.check_new(fd, interest)?;
        let place = self.mechanism.add(&mut self.table, fd, interest, mode)?;
        self.table.insert(fd, token, interest, mode, place);
        Ok(())
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        check_mode::<M>("modify", fd, mode)?;
        M::check("modify", fd, interest)?;
        let entry = self.table.find_to_modify(fd, interest)?;
        self.mechanism.change(entry, fd, interest, mode)?;
        (entry.token, entry.interest, entry.mode, entry.armed) = (token, interest, mode, true);
        self.mechanism.commit(&mut self.table)
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        let entry = self.table.remove(fd)?;
        self.mechanism.remove(&mut self.table, fd, entry)?;
        self.mechanism.commit(&mut self.table)
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.fork.check()?;
        events.clear();
        let mut wait = Wait::start(timeout);
        loop {
            if self.table.has_closed() {
                self.table.report_closed(events);
                if events.is_full() {
                    return Ok(());
                }
                if !events.is_empty() {
                    wait.stop_blocking();
                }
            }
            match self.mechanism.wait(&mut self.table, events, wait.slice())? {
                Outcome::Complete => {
                    if !events.is_empty() || !wait.has_time_left() {
                        return Ok(());
                    }
                }
                Outcome::Notified => {
                    events.set_wait_end(WaitEnd::Notification);
                    return Ok(());
                }
                Outcome::Interrupted => {
                    events.set_wait_end(WaitEnd::Signal);
                    return Ok(());
                }
                Outcome::Again if events.is_full() => return Ok(()),
                Outcome::Again if !events.is_empty() => wait.stop_blocking(),
                Outcome::Again => {
                    wait.has_time_left();
                }
            }
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.fork.check()?;
        self.mechanism.notifier()
    }

    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration> {
        self.table.registration(fd.as_raw_fd())
    }

    fn registrations(&self) -> Vec<Registration> {
        self.table.registrations()
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.mechanism.pollable_fd()
    }

    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        self.mechanism.pollable_fds(fds)
    }

    fn short_read_is_empty(&self) -> bool {
        M::SHORT_READ_IS_EMPTY
    }

    fn refuses_files(&self) -> bool {
        M::REFUSES_FILES
    }

    fn descriptor_limit(&self) -> Option<usize> {
        M::DESCRIPTOR_LIMIT
    }

    fn system_calls(&self) -> SystemCalls {
        self.mechanism.system_calls()
    }
}

fn check_mode<M: Mechanism>(call: &str, fd: RawFd, mode: Mode) -> io::Result<()> {
    if mode == Mode::Edge && !M::HAS_EDGES {
        Err(no_edges(call, fd, M::BACKEND.name()))
    } else {
        Ok(())
    }
}

#[cold]
fn no_edges(call: &str, fd: RawFd, backend: &str) -> io::Error {
    let message = format!("{call}: fd {fd}: {backend} has no edge-triggered mode");
    io::Error::new(io::ErrorKind::Unsupported, message)
}
