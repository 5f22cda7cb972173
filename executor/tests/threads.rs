//! Aim: no wake-up, task or result is lost between threads.

mod util;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    Builder, Handle, JoinHandle, Runtime, Sleep, metrics, run, sleep, spawn, spawn_blocking,
    yield_now,
};
use polyloop_reactor::Backend;

use util::{ForeignWaker, OnDrop, block_on_elsewhere, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the loop has read the messages that have arrived: it does so every 128 polls.
async fn letters_are_read() {
    for _ in 0..=128 {
        yield_now().await;
    }
}

/// Counts wakes from other threads; the task that owns it sleeps until there are enough.
#[derive(Default)]
struct Signal {
    n_sent: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    fn send(&self) {
        self.n_sent.fetch_add(1, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until `n` were sent.
    async fn wait_for(&self, n: u64) {
        poll_fn(|cx| {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            if self.n_sent.load(Ordering::SeqCst) >= n { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[test]
fn a_million_wakes_from_eight_threads_lose_none() {
    const N_THREADS: u64 = 8;
    const N_EACH: u64 = 150_000;
    with_watchdog(LIMIT, || {
        let signal = Arc::new(Signal::default());
        let senders: Vec<_> = (0..N_THREADS)
            .map(|_| {
                let signal = Arc::clone(&signal);
                thread::spawn(move || (0..N_EACH).for_each(|_| signal.send()))
            })
            .collect();
        run(async {
            // Each step sleeps again, so that wake-ups and wakes interleave in many ways.
            for n in (0..=N_THREADS * N_EACH).step_by(100) {
                signal.wait_for(n).await;
            }
        })
        .unwrap();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_ping_pong_between_two_loops_never_stalls() {
    const N: u64 = 20_000;
    for backend in Backend::available() {
        with_watchdog(LIMIT, move || {
            let signals = Arc::new([Signal::default(), Signal::default()]);
            let player = |own: usize| {
                let signals = Arc::clone(&signals);
                move || {
                    let runtime = Builder::new().backend(*backend).build().unwrap();
                    runtime
                        .block_on(async {
                            for n in 1..=N {
                                if own == 0 {
                                    signals[1].send();
                                    signals[0].wait_for(n).await;
                                } else {
                                    signals[1].wait_for(n).await;
                                    signals[0].send();
                                }
                            }
                        })
                        .unwrap();
                }
            };
            let far = thread::spawn(player(1));
            player(0)();
            far.join().unwrap();
        });
    }
}

#[test]
fn a_spinning_loop_is_reachable_and_an_idle_one_stops_spinning() {
    with_watchdog(LIMIT, || {
        let limit = Duration::from_millis(2);
        let runtime = Builder::new().spin(limit).build().unwrap();
        let signal = Arc::new(Signal::default());
        let theirs = Arc::clone(&signal);
        let sender = thread::spawn(move || {
            for _ in 0..2_000 {
                theirs.send();
                thread::yield_now();
            }
        });
        runtime
            .block_on(async {
                for n in 0..=2_000 {
                    signal.wait_for(n).await;
                }
                sender.join().unwrap();
                // Far apart: spinning is tried a few times, and then the loop sleeps at once.
                for _ in 0..8 {
                    sleep(20 * limit).await;
                }
                let before = metrics().waits;
                for _ in 0..5 {
                    sleep(20 * limit).await;
                }
                let n_waits = metrics().waits - before;
                assert!(n_waits <= 20, "{n_waits} waits for five timers");
            })
            .unwrap();
    });
}

#[test]
fn wakes_while_the_loop_runs_cost_no_notification() {
    let signal = Arc::new(Signal::default());
    let runtime = Runtime::new().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let n_waits = runtime
        .block_on(async {
            let sender = {
                let (signal, stop) = (Arc::clone(&signal), Arc::clone(&stop));
                thread::spawn(move || {
                    (0..100_000).for_each(|_| signal.send());
                    stop.store(true, Ordering::SeqCst);
                })
            };
            while !stop.load(Ordering::SeqCst) {
                yield_now().await;
            }
            sender.join().unwrap();
            metrics().waits
        })
        .unwrap();
    assert!(n_waits <= 1, "{n_waits} waits of a loop that was never idle");
}

#[test]
fn ten_threads_spawn_through_a_handle_and_receive_every_result() {
    const N_EACH: usize = 5_000;
    with_watchdog(LIMIT, || {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let (done, is_done) = mpsc::channel::<()>();
        let threads: Vec<_> = (0..10)
            .map(|t| {
                let done = done.clone();
                thread::spawn(move || {
                    let tasks: Vec<_> =
                        (0..N_EACH).map(|i| handle.spawn(async move { t * N_EACH + i })).collect();
                    for (i, task) in tasks.into_iter().enumerate() {
                        assert_eq!(block_on_elsewhere(task).unwrap(), t * N_EACH + i);
                    }
                    drop(done);
                })
            })
            .collect();
        drop(done);
        runtime
            .block_on(async move {
                let wait = spawn_blocking(move || is_done.recv().is_err());
                assert!(wait.await.unwrap());
                assert_eq!(metrics().tasks, 0);
            })
            .unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_task_spawned_from_another_thread_is_aborted_from_there() {
    with_watchdog(LIMIT, || {
        run(async {
            let handle = Handle::current().unwrap();
            let dropped = Arc::new(AtomicBool::new(false));
            let at_drop = Arc::clone(&dropped);
            let aborted = spawn_blocking(move || {
                let guard = OnDrop(move || at_drop.store(true, Ordering::SeqCst));
                let task = handle.spawn(async move {
                    let _guard = guard;
                    pending::<()>().await;
                });
                task.abort();
                block_on_elsewhere(task).unwrap_err().is_cancelled()
            });
            assert!(aborted.await.unwrap());
            letters_are_read().await;
            assert!(dropped.load(Ordering::SeqCst));
            assert_eq!(metrics().tasks, 0);
        })
        .unwrap();
    });
}

#[test]
fn panics_of_tasks_spawned_from_other_threads_reach_their_handles() {
    run(async {
        let handle = Handle::current().unwrap();
        let poll = handle.spawn(async { panic!("in poll") });
        assert_eq!(poll.await.unwrap_err().to_string(), "task panicked: in poll");
        struct Bomb;
        impl Future for Bomb {
            type Output = ();
            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
                Poll::Ready(())
            }
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let drop_panics = handle.spawn(Bomb);
        assert_eq!(drop_panics.await.unwrap_err().to_string(), "task panicked: in drop");
    })
    .unwrap();
}

#[test]
fn spawns_that_race_with_the_end_of_the_loop_always_resolve() {
    with_watchdog(LIMIT, || {
        for _ in 0..300 {
            let runtime = Runtime::new().unwrap();
            let handle = runtime.handle();
            let barrier = Arc::new(Barrier::new(3));
            let threads = [(); 2].map(|()| {
                let barrier = Arc::clone(&barrier);
                thread::spawn(move || {
                    barrier.wait();
                    let tasks: Vec<_> = (0..50).map(|i| handle.spawn(async move { i })).collect();
                    for (i, task) in tasks.into_iter().enumerate() {
                        match block_on_elsewhere(task) {
                            Ok(output) => assert_eq!(output, i),
                            Err(error) => assert!(error.is_cancelled()),
                        }
                    }
                })
            });
            barrier.wait();
            runtime.block_on(yield_now()).unwrap();
            drop(runtime);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn a_sleep_under_a_foreign_waker_wakes_it() {
    let runtime = Runtime::new().unwrap();
    let (foreign, waker) = ForeignWaker::new();
    runtime
        .block_on(async {
            let mut nap = sleep(Duration::from_millis(1));
            assert!(Pin::new(&mut nap).poll(&mut Context::from_waker(&waker)).is_pending());
            sleep(Duration::from_millis(2)).await;
            assert_eq!(foreign.n_wakes(), 1);
            assert!(Pin::new(&mut nap).poll(&mut Context::from_waker(&waker)).is_ready());
        })
        .unwrap();
}

#[test]
fn a_misbehaving_foreign_waker_is_harmless() {
    /// Uses the loop from within `wake` and from within `drop`.
    struct Busy;
    impl Busy {
        fn use_the_loop() {
            drop(spawn(async {}));
            drop(spawn(sleep(Duration::from_secs(1))));
            assert!(metrics().polls > 0);
            drop(sleep(Duration::ZERO));
        }
    }
    impl std::task::Wake for Busy {
        fn wake(self: Arc<Self>) {
            Busy::use_the_loop();
        }
    }
    impl Drop for Busy {
        fn drop(&mut self) {
            if metrics().polls > 0 {
                Busy::use_the_loop();
            }
        }
    }
    run(async {
        let poll_once = |future: Pin<&mut dyn Future<Output = ()>>| {
            let waker = Waker::from(Arc::new(Busy));
            let _ = future.poll(&mut Context::from_waker(&waker));
        };
        let mut nap = Box::pin(sleep(Duration::from_micros(10)));
        let mut task = spawn(yield_now());
        let mut join = std::pin::pin!(async { (&mut task).await.unwrap() });
        for _ in 0..3 {
            poll_once(nap.as_mut());
            poll_once(join.as_mut());
        }
        sleep(Duration::from_millis(1)).await;
        drop(nap);
    })
    .unwrap();
}

#[test]
fn a_sleep_moves_from_loop_to_loop() {
    fn poll(nap: &mut Sleep) -> impl Future<Output = bool> {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *nap).poll(cx).is_ready()))
    }
    let home = Runtime::new().unwrap();
    let start = std::time::Instant::now();
    let mut nap = sleep(Duration::from_millis(20));
    assert!(!home.block_on(poll(&mut nap)).unwrap());
    let nap = thread::spawn(move || {
        let away = Runtime::new().unwrap();
        assert!(!away.block_on(poll(&mut nap)).unwrap());
        assert_eq!(away.block_on(async { metrics().timers }).unwrap(), 1);
        nap
    })
    .join()
    .unwrap();
    // The timer on this loop was disarmed by the other thread; the other one has ended with its loop.
    let n_timers = home.block_on(async {
        letters_are_read().await;
        metrics().timers
    });
    assert_eq!(n_timers.unwrap(), 0);
    home.block_on(nap).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn timers_are_cancelled_from_other_threads_while_they_fire() {
    with_watchdog(LIMIT, || {
        run(async {
            for _ in 0..200 {
                let mut naps: VecDeque<Sleep> =
                    (0..100).map(|i| sleep(Duration::from_micros(i))).collect();
                for nap in &mut naps {
                    poll_fn(|cx| {
                        let _ = Pin::new(&mut *nap).poll(cx);
                        Poll::Ready(())
                    })
                    .await;
                }
                let dropping = spawn_blocking(move || drop(naps));
                sleep(Duration::from_micros(50)).await;
                dropping.await.unwrap();
            }
            letters_are_read().await;
            assert_eq!(metrics().timers, 0);
        })
        .unwrap();
    });
}

#[test]
fn handles_are_dropped_and_tasks_aborted_on_other_threads() {
    with_watchdog(LIMIT, || {
        run(async {
            let n_dropped = Arc::new(AtomicUsize::new(0));
            for round in 0..100 {
                let handles: Vec<JoinHandle<()>> = (0..20)
                    .map(|_| {
                        let count = Arc::clone(&n_dropped);
                        let guard = OnDrop(move || {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                        spawn(async move {
                            let _guard = guard;
                            pending::<()>().await;
                        })
                    })
                    .collect();
                let away = spawn_blocking(move || {
                    for handle in handles {
                        handle.abort();
                        drop(handle);
                    }
                });
                away.await.unwrap();
                letters_are_read().await;
                assert_eq!(n_dropped.load(Ordering::SeqCst), (round + 1) * 20);
                assert_eq!(metrics().tasks, 0);
            }
        })
        .unwrap();
    });
}
