//! Writing to a closed pipe without `SIGPIPE`.
//!
//! A send over a socket has a flag for that. A write to a pipe, splice(2) and sendfile(2) have
//! none, so the signal is blocked for this thread during the call, and removed if it was raised.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, sigset_t};

use crate::sys::cvt::cvt;

/// Turns `SIGPIPE` into an error, for calls that have no flag for that.
///
/// It checks once, when it is created, whether the process ignores the signal, as Rust programs do
/// by default. If so, it costs nothing. Otherwise it changes the signal mask of the thread around
/// each write, which takes two system calls.
///
/// # Examples
/// ```
/// use std::io::{ErrorKind, Write, pipe};
/// use polyloop::driver::socket::NoSignal;
///
/// let (reader, mut writer) = pipe()?;
/// drop(reader);
/// let error = NoSignal::new().call(|| writer.write(b"x")).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BrokenPipe);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoSignal {
    is_ignored: bool,
}

impl NoSignal {
    /// Checks whether the process ignores `SIGPIPE`.
    #[expect(clippy::new_without_default, reason = "it depends on the process")]
    pub fn new() -> NoSignal {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: a null action changes nothing, and `action` is valid for writes.
        let result =
            cvt(unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) });
        let is_ignored = result.is_ok_and(|_| {
            // SAFETY: the call succeeded, so it has filled `action`.
            let action = unsafe { action.assume_init() };
            action.sa_sigaction == libc::SIG_IGN
        });
        NoSignal { is_ignored }
    }

    /// Calls `write`, which makes one system call that may raise `SIGPIPE` for this thread.
    ///
    /// # Errors
    /// The errors of `write`: [`BrokenPipe`](io::ErrorKind::BrokenPipe) in place of the signal.
    pub fn call<R>(self, write: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if self.is_ignored {
            return write();
        }
        let blocked = Blocked::new()?;
        let result = write();
        if let Err(error) = &result
            && error.raw_os_error() == Some(libc::EPIPE)
        {
            blocked.take_signal();
        }
        result
    }
}

/// Blocks `SIGPIPE` for this thread until it is dropped.
struct Blocked {
    former: sigset_t,
    /// Whether the signal was already pending, for another reason.
    was_pending: bool,
}

impl Blocked {
    fn new() -> io::Result<Blocked> {
        let former = change_mask(libc::SIG_BLOCK, &only_sigpipe())?;
        // Only a blocked signal can be pending.
        let was_pending = has_sigpipe(&former) && is_pending();
        Ok(Blocked { former, was_pending })
    }

    /// Removes the signal that a write has raised.
    fn take_signal(&self) {
        if self.was_pending || !is_pending() {
            return;
        }
        let mut signum: c_int = 0;
        // SAFETY: both are valid, the second for writes. The signal is pending for this thread,
        // which alone can take it, so the call does not wait.
        unsafe { libc::sigwait(&only_sigpipe(), &mut signum) };
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // The mask was this thread's own, so it is accepted.
        let _ = change_mask(libc::SIG_SETMASK, &self.former);
    }
}

fn only_sigpipe() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialized now, and the number is a signal's.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: as above.
    unsafe { set.assume_init() }
}

fn has_sigpipe(set: &sigset_t) -> bool {
    // SAFETY: the set is initialized, and the number is a signal's.
    unsafe { libc::sigismember(set, libc::SIGPIPE) == 1 }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is valid for writes.
    let result = cvt(unsafe { libc::sigpending(set.as_mut_ptr()) });
    result.is_ok_and(|_| {
        // SAFETY: the call succeeded, so it has filled `set`.
        has_sigpipe(&unsafe { set.assume_init() })
    })
}

/// Changes which signals this thread blocks, and returns which it blocked before.
fn change_mask(how: c_int, set: &sigset_t) -> io::Result<sigset_t> {
    let mut former = MaybeUninit::uninit();
    // SAFETY: `set` is initialized, and `former` valid for writes.
    let errno = unsafe { libc::pthread_sigmask(how, set, former.as_mut_ptr()) };
    if errno != 0 {
        // It returns the error instead of leaving it in `errno`.
        return Err(io::Error::from_raw_os_error(errno));
    }
    // SAFETY: the call succeeded, so it has filled `former`.
    Ok(unsafe { former.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus, Stdio};

    use super::*;

    /// Names the part of the test that this program runs, in a separate process.
    const ROLE: &str = "POLYLOOP_SIGPIPE_ROLE";

    fn run_alone(test: &str, role: &str) -> ExitStatus {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            &format!("sys::socket::sigpipe::tests::{test}"),
            "--test-threads=1",
        ]);
        command.env(ROLE, role).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap()
    }

    /// Restores the default action, which ends the process.
    fn set_default() {
        // SAFETY: the default is no function, and nothing else here handles the signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }

    fn write_to_closed_pipe() -> io::Result<usize> {
        let (reader, mut writer) = io::pipe()?;
        drop(reader);
        writer.write(b"x")
    }

    #[test]
    fn if_the_signal_would_end_the_process_a_quiet_write_is_an_error_and_a_plain_one_the_end() {
        let test =
            "if_the_signal_would_end_the_process_a_quiet_write_is_an_error_and_a_plain_one_the_end";
        match std::env::var(ROLE).as_deref() {
            Err(_) => {
                assert!(run_alone(test, "quiet").success());
                assert_eq!(run_alone(test, "plain").signal(), Some(libc::SIGPIPE));
            }
            Ok("quiet") => {
                set_default();
                let quiet = NoSignal::new();
                assert!(!quiet.is_ignored);
                for _ in 0..3 {
                    let error = quiet.call(write_to_closed_pipe).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                    // The mask is restored, and no signal is pending.
                    let mask = change_mask(libc::SIG_BLOCK, &only_sigpipe()).unwrap();
                    assert!(!has_sigpipe(&mask) && !is_pending());
                    change_mask(libc::SIG_SETMASK, &mask).unwrap();
                }
                assert_eq!(quiet.call(|| Ok(7)).unwrap(), 7);
            }
            Ok(_) => {
                set_default();
                let _ = write_to_closed_pipe();
            }
        }
    }

    #[test]
    fn a_signal_that_was_pending_before_is_still_delivered() {
        let test = "a_signal_that_was_pending_before_is_still_delivered";
        if std::env::var(ROLE).is_err() {
            assert!(run_alone(test, "alone").success());
            return;
        }
        set_default();
        let mask = change_mask(libc::SIG_BLOCK, &only_sigpipe()).unwrap();
        assert!(!has_sigpipe(&mask));
        let quiet = NoSignal::new();
        quiet.call(write_to_closed_pipe).unwrap_err();
        assert!(!is_pending(), "the one that the write raised was taken");
        // SAFETY: a signal that is blocked only becomes pending.
        unsafe { libc::raise(libc::SIGPIPE) };
        quiet.call(write_to_closed_pipe).unwrap_err();
        assert!(is_pending(), "the other one's is left");
    }

    #[test]
    fn if_the_signal_is_ignored_nothing_is_changed() {
        // As in test programs.
        let quiet = NoSignal::new();
        assert!(quiet.is_ignored);
        assert_eq!(quiet.call(write_to_closed_pipe).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
