//! Other descriptors that Linux can await through `AsyncFd`: timerfd, eventfd, inotify, terminals.
#![cfg(any(target_os = "linux", target_os = "android"))]

mod common;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use polyloop::Backend;
use polyloop::net::{AsyncFd, Direction};

use common::run_on;

backends!(
    an_eventfd_returns_what_was_added,
    a_timerfd_is_awaited_and_not_early,
    a_timerfd_without_a_time_keeps_its_reader_waiting,
    inotify_reports_files_as_they_appear,
    a_terminal_is_read_and_written_by_lines,
);

fn an_eventfd_returns_what_was_added(backend: Backend) {
    run_on(backend, async {
        let counter = AsyncFd::new(EventFd::new().unwrap()).unwrap();
        let take = |counter: &EventFd| counter.read().map_err(io::Error::from);
        counter.get_ref().write(3).unwrap();
        counter.get_ref().write(4).unwrap();
        assert_eq!(counter.async_io(Direction::Read, take).await.unwrap(), 7);
        let blocked = counter.try_io(Direction::Read, take).unwrap_err();
        assert_eq!(blocked.kind(), ErrorKind::WouldBlock);

        let counter = std::rc::Rc::new(counter);
        let waiting = std::rc::Rc::clone(&counter);
        let waiter = polyloop::spawn(async move { waiting.async_io(Direction::Read, take).await });
        polyloop::yield_now().await;
        counter.get_ref().write(5).unwrap();
        assert_eq!(waiter.await.unwrap().unwrap(), 5);

        // When it is full, a writer waits until it is read.
        counter.get_ref().write(u64::MAX - 1).unwrap();
        let add = |counter: &EventFd| counter.write(1).map_err(io::Error::from);
        let waiting = std::rc::Rc::clone(&counter);
        let writer = polyloop::spawn(async move { waiting.async_io(Direction::Write, add).await });
        polyloop::yield_now().await;
        assert_eq!(counter.async_io(Direction::Read, take).await.unwrap(), u64::MAX - 1);
        writer.await.unwrap().unwrap();
        assert_eq!(counter.async_io(Direction::Read, take).await.unwrap(), 1);
    });
}

fn timer() -> TimerFd {
    TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).unwrap()
}

/// Waits until the timer has expired, and reads the count.
async fn run_out(timer: &AsyncFd<TimerFd>) {
    // Its method reads, and returns the read's result.
    let wait = |timer: &TimerFd| timer.wait().map_err(io::Error::from);
    timer.async_io(Direction::Read, wait).await.unwrap();
}

fn a_timerfd_is_awaited_and_not_early(backend: Backend) {
    run_on(backend, async {
        let timer = AsyncFd::new(timer()).unwrap();
        let period = Duration::from_millis(3);
        let started = Instant::now();
        let every = Expiration::Interval(TimeSpec::from_duration(period));
        timer.get_ref().set(every, TimerSetTimeFlags::empty()).unwrap();
        for n_periods in 1..=3 {
            run_out(&timer).await;
            assert!(started.elapsed() >= period * n_periods);
        }
    });
}

fn a_timerfd_without_a_time_keeps_its_reader_waiting(backend: Backend) {
    run_on(backend, async {
        let timer = AsyncFd::new(timer()).unwrap();
        let early = polyloop::timeout(Duration::from_millis(20), run_out(&timer)).await;
        assert!(early.is_err());
        let once = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(1)));
        timer.get_ref().set(once, TimerSetTimeFlags::empty()).unwrap();
        run_out(&timer).await;
    });
}

fn inotify_reports_files_as_they_appear(backend: Backend) {
    run_on(backend, async {
        let folder =
            std::env::temp_dir().join(format!("polyloop-{}-{backend}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        inotify.add_watch(&folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE).unwrap();
        let inotify = AsyncFd::new(inotify).unwrap();
        let path = folder.join("new");
        let other = thread::spawn(move || {
            File::create(&path).unwrap();
            fs::remove_file(&path).unwrap();
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let read = |inotify: &Inotify| inotify.read_events().map_err(io::Error::from);
            let events = inotify.async_io(Direction::Read, read).await.unwrap();
            seen.extend(events.into_iter().map(|event| (event.mask, event.name)));
        }
        let name = || Some("new".into());
        let expected = [(AddWatchFlags::IN_CREATE, name()), (AddWatchFlags::IN_DELETE, name())];
        assert_eq!(seen, expected);
        other.join().unwrap();
        fs::remove_dir(&folder).unwrap();
    });
}

fn a_terminal_is_read_and_written_by_lines(backend: Backend) {
    run_on(backend, async {
        let pair = openpty(None, None).unwrap();
        // The master side, and the program's side.
        let window = AsyncFd::new(File::from(pair.master)).unwrap();
        let program = AsyncFd::new(File::from(pair.slave)).unwrap();
        let reading = polyloop::spawn(async move {
            let mut buf = [0; 32];
            let read = |mut side: &File| side.read(&mut buf);
            let n_bytes = program.async_io(Direction::Read, read).await.unwrap();
            let line = buf[..n_bytes].to_vec();
            let answer = |mut side: &File| side.write(b"42");
            program.async_io(Direction::Write, answer).await.unwrap();
            (line, program)
        });
        // An incomplete line is not readable yet.
        for part in [&b"6 * "[..], b"7\n"] {
            window.async_io(Direction::Write, |mut side: &File| side.write(part)).await.unwrap();
            polyloop::yield_now().await;
        }
        let (line, program) = reading.await.unwrap();
        assert_eq!(line, b"6 * 7\n");
        // The terminal echoes the input, followed by the answer.
        let mut shown = Vec::new();
        while !shown.ends_with(b"42") {
            let mut buf = [0; 32];
            let read = |mut side: &File| side.read(&mut buf);
            let n_bytes = window.async_io(Direction::Read, read).await.unwrap();
            shown.extend_from_slice(&buf[..n_bytes]);
        }
        assert_eq!(shown, b"6 * 7\r\n42");
        // When the program has exited, the master gets an error.
        drop(program);
        let end = window.async_io(Direction::Read, |mut side: &File| side.read(&mut [0])).await;
        assert_eq!(end.unwrap_err().raw_os_error(), Some(libc::EIO));
    });
}
