//! What a filter of the modelled system sees of a descriptor on Linux.
//!
//! Bytes and errors are those of Linux. When a filter fires, and with which flags, is as on the other system.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDHUP, c_int, c_short};
use socket2::SockRef;

use super::profile::Profile;
use crate::conformance::OtherDirection;
use crate::sys::kq::{self, Filter};
use crate::sys::os;
use crate::sys::socket::kind::{Kind, kind_of};
use crate::sys::testing::{TcpState, number, tcp_state};

/// What an evaluation of a filter finds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    pub(super) is_active: bool,
    pub(super) is_eof: bool,
    pub(super) fflags: u32,
}

/// Returns what a descriptor is.
///
/// # Errors
/// `EBADF` if it is not open.
pub(super) fn kind(fd: RawFd) -> Result<Kind, c_int> {
    // A number that only names a file is not open to any of these systems.
    let is_open = poll(fd).is_ok_and(|bits| bits & POLLNVAL == 0);
    let kind = kind_of(number(fd)).map_err(|_| libc::EBADF)?;
    if is_open { Ok(kind) } else { Err(libc::EBADF) }
}

/// Decides whether a filter can be added.
///
/// # Errors
/// The error of the change.
pub(super) fn attach(
    fd: RawFd,
    kind: Kind,
    filter: Filter,
    profile: &Profile,
) -> Result<(), c_int> {
    if let Some((out_of_band, refusal)) = profile.out_of_band
        && filter == out_of_band.filter
    {
        let is_socket = matches!(kind, Kind::Tcp | Kind::UnixStream | Kind::Socket);
        return if is_socket { Ok(()) } else { Err(refusal) };
    }
    if let Kind::Pipe { is_writer } = kind {
        let is_other = is_writer == (filter == kq::EVFILT_READ);
        if is_other && profile.system.other_direction == OtherDirection::Refused {
            return Err(libc::EINVAL);
        }
        if let Some(refusal) = profile.broken_pipe
            && filter == kq::EVFILT_WRITE
            && look(fd, kind, filter, 0, profile).is_eof
        {
            return Err(refusal);
        }
    }
    Ok(())
}

/// Evaluates a filter that was added with `fflags`.
pub(super) fn look(fd: RawFd, kind: Kind, filter: Filter, fflags: u32, profile: &Profile) -> Look {
    let bits = poll(fd).unwrap_or(0);
    let has = |bit: c_short| bits & bit != 0;
    let plain = |is_active| Look { is_active, ..Look::default() };
    let is_reading = filter == kq::EVFILT_READ;
    match kind {
        Kind::Tcp | Kind::UnixStream => {
            let end = stream_end(fd, kind, bits);
            let error = if kind == Kind::Tcp && has(POLLERR) { libc::ECONNRESET as u32 } else { 0 };
            if let Some((out_of_band, _)) = profile.out_of_band
                && filter == out_of_band.filter
            {
                let mark = if has(POLLPRI) { out_of_band.mark } else { 0 };
                let low_water = out_of_band.low_water;
                let is_eof = low_water.is_some() && (end.no_more_in || error != 0);
                let has_data = low_water.is_some_and(|flag| fflags & flag == 0) && has(POLLIN);
                return Look { is_active: mark != 0 || is_eof || has_data, is_eof, fflags: mark };
            }
            let is_over = if is_reading { end.no_more_in } else { end.no_more_out };
            let is_eof = is_over || error != 0;
            let is_ready = has(if is_reading { POLLIN } else { POLLOUT });
            let is_active = !end.is_unconnected && (is_ready || is_eof);
            Look { is_active, is_eof, fflags: error }
        }
        Kind::Pipe { is_writer } => {
            let is_eof = has(if is_writer { POLLERR } else { POLLHUP });
            let is_ready = match (is_reading, is_writer) {
                (true, false) => has(POLLIN),
                (false, true) => has(POLLOUT),
                // The other stream of this end, which has no writer.
                (true, true) => false,
                (false, false) => profile.system.other_direction == OtherDirection::Open,
            };
            Look { is_active: is_ready || is_eof, is_eof, fflags: 0 }
        }
        Kind::File | Kind::Device => plain(true),
        Kind::Socket | Kind::Other => match filter {
            kq::EVFILT_READ => plain(has(POLLIN | POLLERR)),
            kq::EVFILT_WRITE => plain(has(POLLOUT | POLLERR)),
            _ => plain(false),
        },
    }
}

/// Which directions of a stream socket are over.
#[derive(Default)]
struct End {
    no_more_in: bool,
    no_more_out: bool,
    is_unconnected: bool,
}

fn stream_end(fd: RawFd, kind: Kind, bits: c_short) -> End {
    let no_more_in = bits & POLLRDHUP != 0;
    let is_hung_up = bits & POLLHUP != 0;
    if is_hung_up && !no_more_in {
        return End { is_unconnected: true, ..End::default() };
    }
    // Linux has no bit for the end of our own sending.
    let has_shut = if kind == Kind::Tcp {
        tcp_state(number(fd)).is_ok_and(|state| state == TcpState::HasSentEnd)
    } else {
        // Nothing is sent, and no error of the socket is taken.
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let result = SockRef::from(&number(fd)).send_with_flags(&[], flags);
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPIPE))
    };
    End { no_more_in, no_more_out: is_hung_up || has_shut, is_unconnected: false }
}

fn poll(fd: RawFd) -> io::Result<c_short> {
    let events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
    let mut item = [libc::pollfd { fd, events, revents: 0 }];
    os::poll(&mut item, Some(Duration::ZERO))?;
    Ok(item[0].revents)
}
