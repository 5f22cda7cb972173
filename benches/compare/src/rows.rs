//! The rows: the same code for every runtime.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::machine::{cpu_time, resident, spawn_elsewhere};
use crate::peer::{Peer, async_channel_flood, poll_once};

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    SpawnAwait,
    SpawnMany,
    Yield(u32),
    OwnRoundTrip,
    AsyncChannelRoundTrip,
    BlockOnReady,
    MakeDrop,
    Flood,
    AsyncChannelFlood,
    SpawnFromThread,
    WakeP50,
    WakeP99,
    ArmDrop(u32),
    Arm,
    SleepsInOneTask(u32),
    Sleeps(u32),
    Lateness(u32),
    Overshoot(Duration),
    ResidentTask,
    ResidentTimer,
}

/// The rows of each table.
pub(crate) const TABLES: [(&str, &[Row]); 4] = [
    (
        "executor",
        &[
            Row::SpawnAwait,
            Row::SpawnMany,
            Row::Yield(1),
            Row::Yield(1_000),
            Row::OwnRoundTrip,
            Row::AsyncChannelRoundTrip,
            Row::BlockOnReady,
            Row::MakeDrop,
        ],
    ),
    (
        "threads",
        &[Row::Flood, Row::AsyncChannelFlood, Row::SpawnFromThread, Row::WakeP50, Row::WakeP99],
    ),
    (
        "timers",
        &[
            Row::ArmDrop(0),
            Row::ArmDrop(10_000),
            Row::ArmDrop(1_000_000),
            Row::Arm,
            Row::SleepsInOneTask(100_000),
            Row::Sleeps(100_000),
            Row::Sleeps(1_000_000),
            Row::Lateness(100_000),
            Row::Overshoot(Duration::from_millis(1)),
            Row::Overshoot(Duration::from_micros(100)),
            Row::Overshoot(Duration::from_micros(10)),
        ],
    ),
    ("memory", &[Row::ResidentTask, Row::ResidentTimer]),
];

impl Row {
    /// Describes the row.
    pub(crate) fn title(self) -> String {
        match self {
            Row::SpawnAwait => "spawn and await one task".into(),
            Row::SpawnMany => "spawn 10,000 and join all, per task".into(),
            Row::Yield(n) => format!("yield, {n} task(s)"),
            Row::OwnRoundTrip => "round trip, the runtime's channel".into(),
            Row::AsyncChannelRoundTrip => "round trip, async-channel".into(),
            Row::BlockOnReady => "block_on a ready future".into(),
            Row::MakeDrop => "make, run and drop a runtime".into(),
            Row::Flood => "flood from another thread, its channel if any".into(),
            Row::AsyncChannelFlood => "flood from another thread, async-channel".into(),
            Row::SpawnFromThread => "spawn from another thread, per task".into(),
            Row::WakeP50 => "wake from another thread, p50".into(),
            Row::WakeP99 => "wake from another thread, p99".into(),
            Row::ArmDrop(n) => format!("arm, poll and drop a timer beside {} others", n + 1),
            Row::Arm => "arm a timer".into(),
            Row::SleepsInOneTask(n) => format!("{n} sleeps of 1 to 100 ms in one task, CPU each"),
            Row::Sleeps(n) => format!("{n} sleeps of 1 to 100 ms, a task each, CPU each"),
            Row::Lateness(n) => format!("{n} sleeps of 1 to 100 ms, mean lateness"),
            Row::Overshoot(d) => format!("sleep({d:?}), lateness p50"),
            Row::ResidentTask => "a parked task, resident bytes".into(),
            Row::ResidentTimer => "a timer, resident bytes".into(),
        }
    }

    /// Reports whether it needs a separate process.
    pub(crate) fn needs_process(self) -> bool {
        matches!(self, Row::ResidentTask | Row::ResidentTimer)
    }

    /// Measures one runtime once, in nanoseconds or bytes. Returns `None` if it lacks the feature.
    pub(crate) fn measure<P: Peer>(self) -> Result<Option<f64>, String> {
        let mut runtime = P::make()?;
        let runtime = &mut runtime;
        Ok(Some(match self {
            Row::SpawnAwait => per(200_000, |n| {
                P::block_on(runtime, async {
                    for _ in 0..n {
                        P::spawn(async {}).await;
                    }
                });
            }),
            Row::SpawnMany => {
                per(20, |n| {
                    P::block_on(runtime, async {
                        let mut tasks = Vec::with_capacity(10_000);
                        for _ in 0..n {
                            tasks.extend((0..10_000).map(|_| P::spawn(async {})));
                            for task in tasks.drain(..) {
                                task.await;
                            }
                        }
                    });
                }) / 10_000.0
            }
            Row::Yield(n_tasks) => {
                let n_each = 400_000 / n_tasks;
                per(n_each, |n_each| {
                    P::block_on(runtime, async {
                        let tasks: Vec<_> = (0..n_tasks)
                            .map(|_| {
                                P::spawn(async move {
                                    for _ in 0..n_each {
                                        P::yield_now().await;
                                    }
                                })
                            })
                            .collect();
                        for task in tasks {
                            task.await;
                        }
                    });
                }) / f64::from(n_tasks)
            }
            Row::OwnRoundTrip => {
                if !P::block_on(runtime, P::own_round_trips(10)) {
                    return Ok(None);
                }
                per(100_000, |n| {
                    P::block_on(runtime, P::own_round_trips(n));
                })
            }
            Row::AsyncChannelRoundTrip => per(100_000, |n| {
                P::block_on(runtime, async {
                    let (there, far) = async_channel::unbounded::<u32>();
                    let (back, near) = async_channel::unbounded::<u32>();
                    let echo = P::spawn(async move {
                        while let Ok(i) = far.recv().await {
                            let _ = back.try_send(i);
                        }
                    });
                    for i in 0..n {
                        let _ = there.try_send(i);
                        let _ = near.recv().await;
                    }
                    drop(there);
                    echo.await;
                });
            }),
            Row::BlockOnReady => per(200_000, |n| {
                for i in 0..n {
                    P::block_on(runtime, std::future::ready(i));
                }
            }),
            Row::MakeDrop => per(300, |n| {
                for _ in 0..n {
                    let mut runtime = P::make().expect("it could be created before");
                    P::block_on(&mut runtime, async {
                        P::spawn(async {}).await;
                    });
                }
            }),
            Row::Flood => per(500_000, |n| P::block_on(runtime, P::flood(n))),
            Row::AsyncChannelFlood => {
                per(500_000, |n| P::block_on(runtime, async_channel_flood(n)))
            }
            Row::SpawnFromThread => {
                if !P::block_on(runtime, P::spawn_from_afar(10)) {
                    return Ok(None);
                }
                per(100_000, |n| {
                    P::block_on(runtime, P::spawn_from_afar(n));
                })
            }
            Row::WakeP50 => percentile(wakes::<P>(runtime), 0.5),
            Row::WakeP99 => percentile(wakes::<P>(runtime), 0.99),
            Row::ArmDrop(n_others) => P::block_on(runtime, arm_drop::<P>(n_others)),
            Row::Arm => P::block_on(runtime, arm::<P>(100_000)),
            Row::SleepsInOneTask(n) => {
                let before = cpu_time();
                P::block_on(runtime, async {
                    let sleeps = sleep_times(n).map(|duration| P::sleep(duration));
                    let (mut sleeps, _) = poll_all::<P, _>(sleeps).await;
                    while sleeps.next().await.is_some() {}
                });
                (cpu_time() - before).as_nanos() as f64 / f64::from(n)
            }
            Row::Sleeps(n) => {
                let before = cpu_time();
                P::block_on(runtime, async {
                    let tasks: Vec<_> = sleep_times(n).map(P::spawn_sleep).collect();
                    for task in tasks {
                        task.await;
                    }
                });
                (cpu_time() - before).as_nanos() as f64 / f64::from(n)
            }
            Row::Lateness(n) => P::block_on(runtime, async {
                let sleeps = sleep_times(n).map(|duration| {
                    let due = Instant::now() + duration;
                    let sleep = P::sleep(duration);
                    async move {
                        sleep.await;
                        due.elapsed()
                    }
                });
                let (mut sleeps, ended) = poll_all::<P, _>(sleeps).await;
                let mut late: Duration = ended.iter().sum();
                while let Some(one) = sleeps.next().await {
                    late += one;
                }
                late.as_nanos() as f64 / f64::from(n)
            }),
            Row::Overshoot(duration) => P::block_on(runtime, async {
                let mut late = Vec::new();
                for _ in 0..200 {
                    let start = Instant::now();
                    P::sleep(duration).await;
                    late.push(start.elapsed().saturating_sub(duration).as_nanos() as f64);
                }
                percentile(late, 0.5)
            }),
            Row::ResidentTask => P::block_on(runtime, async {
                const N: usize = 500_000;
                let mut tasks = Vec::with_capacity(N);
                // Touched, so that the memory of the handles is counted before.
                tasks.extend((0..N).map(|_| None));
                let before = resident();
                for place in &mut tasks {
                    *place = Some(P::spawn_parked());
                }
                for _ in 0..3 {
                    P::yield_now().await;
                }
                let bytes = (resident() - before) as f64 / N as f64;
                end_process(bytes, tasks)
            }),
            Row::ResidentTimer => P::block_on(runtime, async {
                const N: usize = 500_000;
                let before = resident();
                let mut sleeps = Vec::with_capacity(N);
                for i in 0..N {
                    let mut sleep = Box::pin(P::sleep(Duration::from_millis(3_600_000 + i as u64)));
                    poll_once(sleep.as_mut()).await;
                    sleeps.push(sleep);
                }
                let bytes = (resident() - before) as f64 / N as f64;
                end_process(bytes, sleeps)
            }),
        }))
    }
}

/// Prints the figure of a separate process, and exits without cleaning up.
fn end_process<T>(bytes: f64, kept: Vec<T>) -> f64 {
    println!("{bytes}");
    std::mem::forget(kept);
    std::process::exit(0);
}

/// Times `f`, which performs `n` operations, and returns the nanoseconds per operation.
fn per(n: u32, mut f: impl FnMut(u32)) -> f64 {
    f(n / 10 + 1);
    let start = Instant::now();
    f(n);
    start.elapsed().as_nanos() as f64 / f64::from(n)
}

fn percentile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at) as usize]
}

fn sleep_times(n: u32) -> impl Iterator<Item = Duration> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..n).map(move |_| Duration::from_micros(random.u64(1_000..100_000)))
}

/// How many timers a task arms before it yields to the loop.
///
/// tokio updates its earliest deadline when its time driver runs. In a task that never yields, every new timer
/// counts as the earliest one, and costs a write to the driver's eventfd.
const ARMED_AT_ONCE: usize = 64;

/// Polls all of `futures` once, and yields to the loop in between. Returns the pending ones, and the outputs
/// of the others.
async fn poll_all<P: Peer, F: Future>(
    futures: impl Iterator<Item = F>,
) -> (FuturesUnordered<F>, Vec<F::Output>) {
    let (mut waiting, mut ended) = (FuturesUnordered::new(), Vec::new());
    for (i, future) in futures.enumerate() {
        waiting.push(future);
        if i % ARMED_AT_ONCE == ARMED_AT_ONCE - 1 {
            poll_fn(|cx| {
                while let Poll::Ready(Some(output)) = waiting.poll_next_unpin(cx) {
                    ended.push(output);
                }
                Poll::Ready(())
            })
            .await;
            P::yield_now().await;
        }
    }
    (waiting, ended)
}

/// Arms a timer that is earlier than the measured ones, and yields to the loop.
async fn arm_the_earliest<P: Peer>() -> impl Future {
    let mut sleep = Box::pin(P::sleep(Duration::from_secs(9)));
    poll_once(sleep.as_mut()).await;
    P::yield_now().await;
    sleep
}

/// Arms, polls and drops timers beside `n_others` with deadlines of the same distribution.
async fn arm_drop<P: Peer>(n_others: u32) -> f64 {
    let mut random = fastrand::Rng::with_seed(7);
    let mut duration = move || Duration::from_micros(random.u64(10_000_000..100_000_000));
    let _earliest = arm_the_earliest::<P>().await;
    let mut others = Vec::new();
    for _ in 0..n_others {
        let mut sleep = Box::pin(P::sleep(duration()));
        poll_once(sleep.as_mut()).await;
        others.push(sleep);
    }
    let mut step = async |n: usize| {
        for i in 0..n {
            poll_once(pin!(P::sleep(duration()))).await;
            if i % ARMED_AT_ONCE == ARMED_AT_ONCE - 1 {
                P::yield_now().await;
            }
        }
    };
    step(10_000).await;
    let start = Instant::now();
    step(100_000).await;
    start.elapsed().as_nanos() as f64 / 100_000.0
}

async fn arm<P: Peer>(n: u32) -> f64 {
    let _earliest = arm_the_earliest::<P>().await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut sleeps: Vec<_> = (0..n)
        .map(|_| Box::pin(P::sleep(Duration::from_micros(random.u64(10_000_000..100_000_000)))))
        .collect();
    let start = Instant::now();
    for some in sleeps.chunks_mut(ARMED_AT_ONCE) {
        for sleep in some {
            poll_once(sleep.as_mut()).await;
        }
        P::yield_now().await;
    }
    start.elapsed().as_nanos() as f64 / f64::from(n)
}

/// Repeatedly wakes a parked task from another processor; returns the nanoseconds from before the wake until
/// the task runs.
fn wakes<P: Peer>(runtime: &mut P::Runtime) -> Vec<f64> {
    const N: usize = 2_000;
    #[derive(Default)]
    struct Shared {
        waker: Mutex<Option<Waker>>,
        /// The time of the wake, in nanoseconds since the start; 0 if there is none.
        sent: AtomicU64,
        done: AtomicBool,
    }
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let start = Instant::now();
    let thread = spawn_elsewhere(move || {
        while !theirs.done.load(Ordering::SeqCst) {
            // Long enough for the other processor to halt.
            thread::sleep(Duration::from_micros(200));
            let waker = theirs.waker.lock().expect("no thread panics").take();
            if let Some(waker) = waker {
                theirs.sent.store(start.elapsed().as_nanos() as u64, Ordering::SeqCst);
                waker.wake();
            }
        }
    });
    let latencies = P::block_on(runtime, async {
        let mut latencies = Vec::with_capacity(N);
        while latencies.len() < N {
            let sent = poll_fn(|cx| match shared.sent.swap(0, Ordering::SeqCst) {
                0 => {
                    *shared.waker.lock().expect("no thread panics") = Some(cx.waker().clone());
                    Poll::Pending
                }
                sent => Poll::Ready(sent),
            })
            .await;
            latencies.push((start.elapsed().as_nanos() as u64 - sent) as f64);
        }
        latencies
    });
    shared.done.store(true, Ordering::SeqCst);
    thread.join().expect("the waking thread does not panic");
    latencies
}
