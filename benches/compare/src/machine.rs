//! The machine: cores, clocks, memory and description.

use std::fs;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Pins the calling thread to one processor. If that fails, it is measured unpinned.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    if set.set(cpu).is_ok() && sched_setaffinity(Pid::from_raw(0), &set).is_err() {
        eprintln!("cannot pin to processor {cpu}: measuring unpinned");
    }
}

fn last_cpu() -> usize {
    thread::available_parallelism().map_or(0, |n| n.get() - 1)
}

/// Pins the measured thread to the last processor, which gets the fewest interrupts.
pub(crate) fn pin_main() {
    // Read before the thread is pinned, which changes the result.
    static LAST: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    pin(*LAST.get_or_init(last_cpu));
}

/// Starts a thread on the first processor, apart from the measured one.
pub(crate) fn spawn_elsewhere<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    thread::spawn(move || {
        pin(0);
        f()
    })
}

/// Returns the processor time of all threads of this process.
pub(crate) fn cpu_time() -> Duration {
    let now =
        clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every system has this clock");
    Duration::from(now)
}

/// Returns the resident memory of this process in bytes.
pub(crate) fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4_096
}

/// Describes the date and the machine.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown processor");
    let n_cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "{}, Linux {}, {model} ({n_cpus} processors)",
        today(),
        read("/proc/sys/kernel/osrelease"),
    )
}

/// Returns the date in UTC.
fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut days = now.map_or(0, |now| now.as_secs() / 86_400);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for n_days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < n_days {
            break;
        }
        days -= n_days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}
