//! Shared by the integration tests: one loop for each backend.
#![allow(dead_code, reason = "each test program uses its own share")]

use std::process::{Command, Stdio};
use std::time::Duration;

use polyloop::{Backend, Runtime};

/// Longer than anything here takes; a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `future` on a loop of `backend`, and fails if it takes too long.
pub(crate) fn run_on<F: Future>(backend: Backend, future: F) -> F::Output {
    let runtime = Runtime::builder().backend(backend).build().expect("a loop of this backend");
    let limited = async { polyloop::timeout(PATIENCE, future).await };
    runtime.block_on(limited).expect("the selector works").expect("the test takes too long")
}

/// Tells a test what it is: the one that the runner started, or one in a process of its own.
const ROLE: &str = "POLYLOOP_TEST_ROLE";

/// Returns the role of this process; none in that of the test runner.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Prepares this test program to run one test, by its full name, in a process of its own.
pub(crate) fn process(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(ROLE, role);
    command.stdout(Stdio::null());
    command
}

/// Sees to it that a test has the process to itself, for the sake of what processes share:
/// descriptor numbers, signals. False in the runner's process, where the other one was waited for.
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
        "in its own process: {printed}"
    );
    false
}

/// Reports whether `backend` is the library libkqueue rather than a system's own kqueue.
///
/// What it does differently, as far as these tests meet it: it takes the pending error from a
/// socket, so that the next read finds the end of the stream instead; and where more than 256
/// descriptors are ready at once, both ways, it loses edges.
pub(crate) fn is_libkqueue(backend: Backend) -> bool {
    backend == Backend::Kqueue && cfg!(target_os = "linux")
}

/// Counts the open descriptors of this process, where the system lists them.
pub(crate) fn open_fds() -> Option<usize> {
    let list = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd")).ok()?;
    Some(list.count())
}

/// Makes a test for each backend of this system out of a function that takes one, in modules
/// named after them: `on_poll`, so that the filter `on_poll::` does not match epoll's.
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
