//! Stale registrations of an epoll set: descriptors that were closed while a duplicate exists.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::set::EpollSet;
use super::{Epoll, is_gone, to_cookie, to_mask, watch_wake_up};
use crate::sys::selectors::table::{Entry, Table};

/// How many reports of stale registrations are ignored before the set is rebuilt. Rebuilding costs
/// three system calls for each registered descriptor, a report costs one wait.
pub(super) const MAX_STALE_REPORTS: u32 = 64;

/// How many reports of a level-triggered entry are believed before one is checked: a control call of
/// some 150 ns for every 64 reports is not measurable, and a closed descriptor that the program does
/// not unregister stops after 64 useless turns.
pub(super) const LEVEL_REPORTS: u32 = 64;

/// How long a wait backs off if the set needs rebuilding and there is no descriptor left for that.
const REBUILD_BACKOFF: Duration = Duration::from_millis(1);

impl Epoll {
    /// Counts a report of an unknown registration. Returns whether it is time to rebuild the set.
    #[cold]
    pub(super) fn count_stale_report(&mut self) -> bool {
        self.n_stale_reports += 1;
        self.n_stale_reports >= MAX_STALE_REPORTS
    }

    /// Rebuilds the set, or backs off if it cannot be rebuilt now.
    #[cold]
    pub(super) fn remove_stale(&mut self, table: &mut Table<u32>) {
        self.n_stale_reports = 0;
        if self.rebuild(table).is_err() {
            std::thread::sleep(REBUILD_BACKOFF);
        }
    }

    /// Asks the kernel whether the number still names the file that was registered. Disarms the entry
    /// if it does not.
    #[cold]
    pub(super) fn is_still_watched(&mut self, fd: RawFd, entry: &mut Entry<u32>) -> bool {
        entry.place = 0;
        let (mask, cookie) = (to_mask(entry.interest, entry.mode), to_cookie(fd, entry));
        let result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        entry.armed = !result.is_err_and(|error| is_gone(&error));
        entry.armed
    }

    /// Builds the set anew without stale registrations, under the same number.
    fn rebuild(&mut self, table: &mut Table<u32>) -> io::Result<()> {
        let fresh = EpollSet::create()?;
        if let Some(wake_up) = self.wake_up.get() {
            watch_wake_up(&fresh, wake_up)?;
        }
        let mut closed = Vec::new();
        for (fd, entry) in table.iter().filter(|(_, entry)| entry.armed) {
            let (mask, cookie) = (to_mask(entry.interest, entry.mode), to_cookie(fd, entry));
            // Only what the old set still watches under this number: by now the number may name a file
            // that was never registered.
            self.calls.controls += 2;
            match self.set.control(libc::EPOLL_CTL_MOD, fd, mask, cookie) {
                Err(error) if is_gone(&error) => closed.push(fd),
                _ => fresh.control(libc::EPOLL_CTL_ADD, fd, mask, cookie)?,
            }
        }
        if let Some(Some(outer)) = self.outer.get() {
            // The old set leaves it when its file is closed, by the next call.
            outer.watch(&fresh)?;
        }
        self.set.replace_with(fresh)?;
        for fd in closed {
            table.mark_closed(fd);
        }
        Ok(())
    }
}
