//! Shared by the integration tests: a test per backend, and helpers.
#![allow(dead_code, reason = "not every test program uses all of it")]

use std::process::{Command, Stdio};
use std::time::Duration;

use polyloop::{Backend, Runtime};

/// A test that takes this long has failed.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs `future` on a loop with `backend`, and fails if it takes too long.
pub(crate) fn run_on<F: Future>(backend: Backend, future: F) -> F::Output {
    let runtime = Runtime::builder().backend(backend).build().expect("a loop of this backend");
    let limited = async { polyloop::timeout(TIME_LIMIT, future).await };
    runtime.block_on(limited).expect("the selector works").expect("the test takes too long")
}

/// Set in the separate process of a test, to the role of that process.
const ROLE: &str = "POLYLOOP_TEST_ROLE";

/// Returns the role of this process, or `None` in that of the test runner.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Prepares a command that runs one test, by its full name, in a separate process.
pub(crate) fn process(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(ROLE, role);
    command.stdout(Stdio::null());
    command
}

/// Runs a test in a separate process, because it changes what a process shares: descriptor numbers, signals.
/// Returns `false` in the runner's process, after the other one has passed.
pub(crate) fn is_alone(test: &str) -> bool {
    if role().is_some() {
        return true;
    }
    let output = process(test, "alone").stdout(Stdio::piped()).output();
    let output = output.expect("this program can be run again");
    let printed = String::from_utf8_lossy(&output.stdout);
    // A name that matches no test would succeed as well.
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "in a separate process: {printed}"
    );
    false
}

/// Reports whether `backend` is the library libkqueue rather than the kernel's kqueue.
///
/// Two differences matter to these tests: it consumes the pending error of a socket, so that the next read
/// returns the end of the stream; and with more than 256 descriptors ready in both directions at once, it
/// loses edges.
pub(crate) fn is_libkqueue(backend: Backend) -> bool {
    backend == Backend::Kqueue && cfg!(target_os = "linux")
}

/// Counts the open descriptors of this process, if the system lists them.
pub(crate) fn open_fds() -> Option<usize> {
    let list = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd")).ok()?;
    Some(list.count())
}

/// Defines a test per backend of this system from a function that takes the backend, in modules such as
/// `on_poll`: the filter `on_poll::` does not match epoll's tests.
#[macro_export]
macro_rules! backends {
    ($($test:ident),* $(,)?) => {
        $crate::backends!(@module on_select, Select, $($test),*);
        $crate::backends!(@module on_poll, Poll, $($test),*);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        $crate::backends!(@module on_epoll, Epoll, $($test),*);
        #[cfg(any(
            feature = "libkqueue",
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "dragonfly",
            target_os = "netbsd",
            target_os = "openbsd",
        ))]
        $crate::backends!(@module on_kqueue, Kqueue, $($test),*);
    };
    (@module $module:ident, $backend:ident, $($test:ident),*) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test(polyloop::Backend::$backend);
                }
            )*
        }
    };
}
