//! Aim: destructors and wakers that panic affect nothing else, wherever they are called.

mod util;

use std::cell::Cell;
use std::future::pending;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    Builder, CancellationToken, Handle, JoinSet, Report, Runtime, call_later, call_soon, channel,
    release_source, run, sleep, spawn, spawn_blocking, with_reactor, yield_now,
};
use polyloop_reactor::{Backend, Token, Watched};

use util::{ForeignWaker, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor panics");
    }
}

/// A socket whose owner panics in its destructor, as any `T` in an `AsyncFd<T>` may.
struct Mine(UdpSocket, #[allow(dead_code, reason = "held to be dropped")] Bomb);

impl AsFd for Mine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Mine {
    fn is_latest(&self, _: Token) -> bool {
        true
    }
}

/// Registers a socket with the running loop, which becomes its only owner.
fn register_mine() -> Token {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    with_reactor(|reactor| reactor.register(Arc::new(Mine(socket, Bomb)))).unwrap().unwrap()
}

/// Panics when it is woken, and counts the wakes.
#[derive(Default)]
struct WakeBomb(AtomicUsize);

impl Wake for WakeBomb {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker panics");
    }
}

/// Panics when its last owner drops it, woken or not.
struct DropBomb(#[allow(dead_code, reason = "held to be dropped")] Bomb);

impl Wake for DropBomb {
    fn wake(self: Arc<Self>) {}
}

fn drop_bomb() -> Waker {
    Waker::from(Arc::new(DropBomb(Bomb)))
}

/// Polls `future` once under a foreign waker.
fn poll_under<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[test]
fn a_source_released_by_another_thread_may_panic_and_loses_no_later_message() {
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        let done = runtime.block_on(async {
            let token = register_mine();
            let handle = Handle::current().unwrap();
            let other = spawn(pending::<()>());
            let (number, tasks) = thread::spawn(move || {
                release_source(token);
                let first = handle.spawn(async { 1 });
                other.abort();
                (handle, vec![first, handle.spawn(async { 2 })])
            })
            .join()
            .unwrap();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.unwrap();
            }
            assert_eq!(Handle::current(), Some(number));
            sum
        });
        assert_eq!(done.unwrap(), 3, "{backend}");
        assert_eq!(runtime.block_on(async { polyloop_executor::metrics().tasks }).unwrap(), 0);
    }
}

#[test]
fn a_runtime_with_panicking_destructors_releases_its_number() {
    with_watchdog(LIMIT, || {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        // One of each: a source, a source in a message, a future, an output, a callback, a timer.
        let released = runtime.enter(|| {
            register_mine();
            register_mine()
        });
        let bomb = Bomb;
        drop(runtime.spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        }));
        let output = runtime.spawn(async { Bomb });
        let unread = runtime.spawn(pending::<()>());
        runtime.enter(|| {
            let bomb = Bomb;
            unread.on_done(move |_| drop(bomb));
        });
        runtime
            .block_on(async {
                yield_now().await;
                let mut nap = Box::pin(sleep(Duration::from_secs(3_600)));
                assert!(poll_under(nap.as_mut(), &drop_bomb()).is_pending());
                std::mem::forget(nap);
            })
            .unwrap();
        let mut late = thread::spawn(move || {
            release_source(released);
            handle.spawn(async { 7 })
        })
        .join()
        .unwrap();
        drop(runtime);
        let joined = late.join_timeout(Duration::from_secs(20)).expect("the loop has ended");
        assert!(joined.unwrap_err().is_cancelled());
        let mut refused = handle.spawn(async { 7 });
        let joined = refused.join_timeout(Duration::from_secs(20)).expect("the loop has ended");
        assert!(joined.unwrap_err().is_cancelled(), "the mailbox is closed");
        drop((output, unread));
    });
}

#[test]
fn run_returns_its_output_past_destructors_that_panic() {
    let output = run(async {
        register_mine();
        let bomb = Bomb;
        drop(spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        }));
        yield_now().await;
        "output"
    });
    assert_eq!(output.unwrap(), "output");
}

#[test]
fn a_source_dropped_on_its_own_loop_panics_where_it_is_dropped() {
    run(async {
        let token = register_mine();
        let dropped = spawn(async move { release_source(token) });
        assert!(dropped.await.unwrap_err().is_panic());
        spawn(yield_now()).await.unwrap();
        assert_eq!(polyloop_executor::metrics().sources, 0);
    })
    .unwrap();
}

/// Registers panicking wakers before a good one, and checks that all are woken.
#[track_caller]
fn survives<F: Future>(mut make: impl FnMut() -> F, wake: impl FnOnce()) {
    let bomb = Arc::new(WakeBomb::default());
    let (good, good_waker) = ForeignWaker::new();
    let mut bad_ones: Vec<_> = (0..3).map(|_| Box::pin(make())).collect();
    for bad in &mut bad_ones {
        assert!(poll_under(bad.as_mut(), &Waker::from(bomb.clone())).is_pending());
    }
    let mut last = Box::pin(make());
    assert!(poll_under(last.as_mut(), &good_waker).is_pending());
    wake();
    assert_eq!(bomb.0.load(Ordering::SeqCst), 3, "all were woken");
    assert_eq!(good.n_wakes(), 1, "including the one after the panicking wakers");
    // A waker whose last clone is dropped with its future panics there, or not at all.
    drop((bad_ones, last));
}

#[test]
fn waiting_senders_are_all_woken_when_the_receiver_is_dropped() {
    run(async {
        let (sender, receiver) = channel::bounded(1);
        sender.try_send(0).unwrap();
        survives(|| sender.reserve(), || drop(receiver));
        let (sender, receiver) = channel::local::bounded(1);
        sender.try_send(0).unwrap();
        survives(|| sender.reserve(), || drop(receiver));
    })
    .unwrap();
}

#[test]
fn a_waker_that_panics_does_not_affect_sender_or_dropper() {
    run(async {
        let bomb = || Waker::from(Arc::new(WakeBomb::default()));
        let (sender, mut receiver) = channel::unbounded();
        assert!(poll_under(pin!(receiver.recv()), &bomb()).is_pending());
        sender.send(1).unwrap();
        assert_eq!(receiver.recv().await, Some(1));
        assert!(poll_under(pin!(receiver.recv()), &bomb()).is_pending());
        drop(sender);
        assert_eq!(receiver.recv().await, None);

        let (sender, mut receiver) = channel::local::bounded(1);
        assert!(poll_under(pin!(receiver.recv()), &bomb()).is_pending());
        sender.send(1).await.unwrap();
        {
            let mut waiting = Box::pin(sender.reserve());
            assert!(poll_under(waiting.as_mut(), &bomb()).is_pending());
            assert_eq!(receiver.recv().await, Some(1));
        }
        let permit = sender.reserve().await.unwrap();
        let mut waiting = Box::pin(sender.reserve());
        assert!(poll_under(waiting.as_mut(), &bomb()).is_pending());
        drop(permit);
        drop(waiting);
        sender.try_send(2).unwrap();
        assert_eq!(receiver.recv().await, Some(2));
    })
    .unwrap();
}

#[test]
fn panicking_wakers_of_timers_and_sources_do_not_prevent_other_wakes() {
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        runtime
            .block_on(async {
                let bomb = Arc::new(WakeBomb::default());
                let mut naps: Vec<_> =
                    (0..3).map(|_| Box::pin(sleep(Duration::from_millis(1)))).collect();
                for nap in &mut naps {
                    assert!(poll_under(nap.as_mut(), &Waker::from(bomb.clone())).is_pending());
                }
                sleep(Duration::from_millis(2)).await;
                assert_eq!(bomb.0.load(Ordering::SeqCst), 3);
                // Wakers that panic when they are dropped without a wake.
                let mut nap = Box::pin(sleep(Duration::from_secs(3_600)));
                assert!(poll_under(nap.as_mut(), &drop_bomb()).is_pending());
                assert!(poll_under(nap.as_mut(), &drop_bomb()).is_pending());
                drop(nap);
            })
            .unwrap();
    }
}

#[test]
fn joining_with_a_panicking_waker_ends_neither_the_task_nor_the_loop() {
    run(async {
        let bomb = Arc::new(WakeBomb::default());
        let waker = Waker::from(bomb.clone());
        // On the loop, through a packet, and in a set.
        let mut home = spawn(yield_now());
        assert!(poll_under(Pin::new(&mut home), &waker).is_pending());
        let mut set = JoinSet::new();
        set.spawn(yield_now());
        assert!(poll_under(pin!(set.join_next()), &waker).is_pending());
        let (go, wait) = mpsc::channel::<()>();
        let mut job = spawn_blocking(move || wait.recv().is_err());
        assert!(poll_under(Pin::new(&mut job), &waker).is_pending());
        drop(go);
        home.await.unwrap();
        set.join_next().await.unwrap().unwrap();
        assert!(job.await.unwrap());
        // A task that is detached or ends drops its joiner's waker.
        let mut joined = spawn(pending::<()>());
        assert!(poll_under(Pin::new(&mut joined), &drop_bomb()).is_pending());
        assert!(poll_under(Pin::new(&mut joined), &drop_bomb()).is_pending());
        drop(joined);
        let token = CancellationToken::new();
        survives(|| token.cancelled(), || token.cancel());
    })
    .unwrap();
}

#[test]
fn plain_functions_and_callbacks_may_panic() {
    run(async {
        let called = Rc::new(Cell::new(0));
        let count = || {
            let called = called.clone();
            move || called.set(called.get() + 1)
        };
        call_soon(|| panic!("soon"));
        call_soon(count());
        call_later(Duration::from_millis(1), || panic!("later"));
        call_later(Duration::from_millis(1), count());
        let bomb = Bomb;
        call_soon(move || drop(bomb));
        let bomb = Bomb;
        call_later(Duration::from_secs(3_600), move || drop(bomb)).cancel();
        let handle = Handle::current().unwrap();
        let bomb = Bomb;
        thread::spawn(move || handle.call_soon(move || drop(bomb))).join().unwrap();
        let task = spawn(async {});
        task.on_done(|_| panic!("done"));
        let after = count();
        task.on_done(move |_| after());
        task.await.unwrap();
        // The output and the waker of a task whose handle is dropped.
        drop(spawn(async { Bomb }));
        let handled = handle.spawn(async { sleep(Duration::from_millis(1)).await });
        drop(handled);
        sleep(Duration::from_millis(5)).await;
        assert_eq!(called.get(), 3);
    })
    .unwrap();
}

#[test]
fn a_reporter_that_panics_ends_nothing() {
    let runtime = Builder::new()
        .debug(true)
        .reporter(|_: &Report| panic!("a reporter panics"))
        .slow_poll(Duration::ZERO)
        .build()
        .unwrap();
    let ran = runtime.block_on(async {
        drop(spawn(async { panic!("not joined") }));
        for _ in 0..3 {
            yield_now().await;
        }
        "ran"
    });
    assert_eq!(ran.unwrap(), "ran");
}

#[test]
fn blocking_jobs_that_panic_in_every_way_leave_the_threads_usable() {
    run(async {
        let bomb = Bomb;
        assert!(spawn_blocking(move || drop(bomb)).await.unwrap_err().is_panic());
        // The output is not taken, and panics when it is dropped.
        drop(spawn_blocking(|| Bomb));
        // Or when its handle is dropped, because the output has arrived by then.
        let done = spawn_blocking(|| Bomb);
        while !done.is_finished() {
            yield_now().await;
        }
        drop(done);
        for i in 0..20 {
            assert_eq!(spawn_blocking(move || i).await.unwrap(), i);
        }
    })
    .unwrap();
}

#[test]
fn a_set_may_be_dropped_with_several_outputs_that_panic() {
    run(async {
        let mut set: JoinSet<Bomb> = (0..3).map(|_| async { Bomb }).collect();
        set.spawn(async {
            yield_now().await;
            Bomb
        });
        yield_now().await;
        drop(set);
        // The last one arrives in a set that has gone.
        yield_now().await;
    })
    .unwrap();
}
