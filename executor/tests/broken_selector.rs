//! Aim: a selector that fails or panics makes that call fail, and the loop stays usable.

mod util;

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use polyloop_executor::{Builder, Runtime, sleep, spawn, yield_now};
use polyloop_reactor::{
    Backend, Events, Interest, Mode, Notifier, Registration, Selector, SystemCalls, Token,
};

use util::with_watchdog;

const LIMIT: Duration = Duration::from_secs(60);

/// What the next wait does.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Error,
    Panic,
}

thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static N_WAITS: Cell<usize> = const { Cell::new(0) };
}

/// A selector whose waits fail on request.
#[derive(Debug)]
struct Faulty(Box<dyn Selector>);

impl Selector for Faulty {
    fn backend(&self) -> Backend {
        self.0.backend()
    }

    fn supports(&self, mode: Mode) -> bool {
        self.0.supports(mode)
    }

    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.0.register(fd, token, interest, mode)
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.0.modify(fd, token, interest, mode)
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.unregister(fd)
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        N_WAITS.set(N_WAITS.get() + 1);
        match FAULT.replace(Fault::None) {
            Fault::None => self.0.select(events, timeout),
            Fault::Error => Err(io::Error::other("the selector is broken")),
            Fault::Panic => panic!("the selector panics"),
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.0.notifier()
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.pollable_fd()
    }

    fn system_calls(&self) -> SystemCalls {
        self.0.system_calls()
    }

    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration> {
        self.0.get(fd)
    }

    fn registrations(&self) -> Vec<Registration> {
        self.0.registrations()
    }
}

fn runtimes() -> impl Iterator<Item = Runtime> {
    Backend::available().iter().map(|backend| {
        let selector = Faulty(backend.open().unwrap());
        Builder::new().selector(Box::new(selector)).build().unwrap()
    })
}

/// Checks that the loop sleeps when it has nothing to do, and is woken by other threads.
fn check_sleeps(runtime: &Runtime) {
    let before = N_WAITS.get();
    let handle = runtime.handle();
    let slept = runtime.block_on(async {
        sleep(Duration::from_millis(20)).await;
        let answer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            handle.spawn(async { 7 })
        });
        let (sender, mut receiver) = polyloop_executor::channel::unbounded();
        thread::spawn(move || sender.send(answer.join().unwrap()).unwrap());
        receiver.recv().await.unwrap().await.unwrap()
    });
    assert_eq!(slept.unwrap(), 7);
    let n_waits = N_WAITS.get() - before;
    assert!(n_waits < 20, "{n_waits} waits for three events: the loop spins");
}

#[test]
fn a_loop_can_sleep_again_after_its_selector_panicked() {
    with_watchdog(LIMIT, || {
        for runtime in runtimes() {
            let waits = || runtime.block_on(sleep(Duration::from_secs(3_600)));
            FAULT.set(Fault::Panic);
            catch_unwind(AssertUnwindSafe(waits)).unwrap_err();
            check_sleeps(&runtime);
            FAULT.set(Fault::Error);
            assert_eq!(waits().unwrap_err().to_string(), "the selector is broken");
            check_sleeps(&runtime);
        }
    });
}

#[test]
fn a_failed_turn_leaves_the_loop_reachable() {
    with_watchdog(LIMIT, || {
        for fault in [Fault::Error, Fault::Panic] {
            for runtime in runtimes() {
                let seen = Rc::new(Cell::new(0));
                let task = seen.clone();
                let (sender, mut receiver) = polyloop_executor::channel::unbounded::<u32>();
                runtime.spawn(async move {
                    while let Some(number) = receiver.recv().await {
                        task.set(number);
                    }
                });
                for timeout in [Duration::ZERO, Duration::from_secs(3_600)] {
                    runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
                    FAULT.set(fault);
                    let turned = catch_unwind(AssertUnwindSafe(|| {
                        runtime.turn(Some(timeout), Duration::MAX)
                    }));
                    match fault {
                        Fault::Panic => drop(turned.unwrap_err()),
                        _ => drop(turned.unwrap().unwrap_err()),
                    }
                    // After the failed turn the loop counts as asleep: a message makes the descriptor readable.
                    let mut poll = Backend::Poll.open().unwrap();
                    let mut events = Events::with_capacity(1);
                    let fd = runtime.pollable_fd();
                    if let Ok(fd) = &fd {
                        let token = Token::new(0, 0, 0);
                        poll.register(*fd, token, Interest::READABLE, Mode::Level).unwrap();
                        poll.select(&mut events, Some(Duration::ZERO)).unwrap();
                        assert!(events.is_empty());
                    }
                    let theirs = sender.clone();
                    thread::spawn(move || theirs.send(7).unwrap()).join().unwrap();
                    if fd.is_ok() {
                        poll.select(&mut events, Some(Duration::ZERO)).unwrap();
                        assert_eq!(events.len(), 1, "the host would not call the next turn");
                    }
                    runtime.turn(None, Duration::MAX).unwrap();
                    assert_eq!(seen.replace(0), 7);
                }
                check_sleeps(&runtime);
            }
        }
    });
}

#[test]
fn wakes_during_a_selector_error_are_not_lost() {
    with_watchdog(LIMIT, || {
        for runtime in runtimes() {
            // The timer is due when the wait has failed.
            let task = runtime.spawn(async {
                sleep(Duration::from_millis(5)).await;
                spawn(yield_now()).await.unwrap();
                7
            });
            runtime.block_on(yield_now()).unwrap();
            thread::sleep(Duration::from_millis(5));
            FAULT.set(Fault::Panic);
            let waits = || runtime.block_on(sleep(Duration::from_secs(3_600)));
            catch_unwind(AssertUnwindSafe(waits)).unwrap_err();
            assert_eq!(runtime.block_on(task).unwrap().unwrap(), 7);
        }
    });
}
