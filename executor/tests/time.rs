//! Aim: no timer is early, lost, or out of order, whatever its duration and loop.

mod util;

use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Builder, MissedTickBehavior, interval, interval_at, metrics, now, run, sleep, sleep_until,
    spawn, timeout, timeout_at, yield_now,
};
use polyloop_reactor::Backend;

use util::{Trace, run_virtual, virtual_runtime};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(31_557_600);

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[test]
fn virtual_time_passes_exactly_and_at_once() {
    let start = Instant::now();
    run_virtual(async {
        let start = now();
        sleep(1_000 * HOUR).await;
        assert_eq!(now() - start, 1_000 * HOUR);
        sleep(Duration::from_nanos(1)).await;
        assert_eq!(now() - start, 1_000 * HOUR + Duration::from_nanos(1));
    });
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    let trace = Trace::default();
    run_virtual(async {
        let tasks: Vec<_> = [30_u32, 10, 20, 10, 0]
            .into_iter()
            .enumerate()
            .map(|(i, ms)| {
                let trace = trace.clone();
                spawn(async move {
                    sleep(ms * MS).await;
                    trace.push(format!("{ms} ({i})"));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    // Equal deadlines fire in the order in which they were armed.
    trace.assert(&["0 (4)", "10 (1)", "10 (3)", "20 (2)", "30 (0)"]);
}

#[test]
fn ten_thousand_equal_deadlines_fire_first_in_first_out() {
    let trace = Trace::default();
    run_virtual(async {
        let deadline = now() + HOUR;
        let tasks: Vec<_> = (0..10_000)
            .map(|i| {
                let trace = trace.clone();
                spawn(async move {
                    sleep_until(deadline).await;
                    trace.push(i);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let expected: Vec<_> = (0..10_000).map(|i| i.to_string()).collect();
    trace.assert(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn no_sleep_is_early_on_any_backend() {
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        runtime
            .block_on(async {
                let mut random = fastrand::Rng::with_seed(3);
                let naps: Vec<_> = (0..3_000)
                    .map(|_| {
                        let duration = Duration::from_nanos(random.u64(..20_000_000));
                        spawn(async move {
                            let start = Instant::now();
                            sleep(duration).await;
                            assert!(start.elapsed() >= duration, "{duration:?} was early");
                        })
                    })
                    .collect();
                for nap in naps {
                    nap.await.unwrap();
                }
            })
            .unwrap();
    }
}

#[test]
fn a_short_sleep_is_not_a_long_one() {
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        let start = Instant::now();
        runtime
            .block_on(async {
                for _ in 0..20 {
                    sleep(100 * Duration::from_nanos(1)).await;
                    sleep(MS).await;
                }
            })
            .unwrap();
        let took = start.elapsed();
        assert!(took >= 20 * MS, "{backend}: {took:?}");
        assert!(took < Duration::from_secs(5), "{backend}: {took:?}");
    }
}

#[test]
fn a_waiting_loop_makes_few_turns_for_a_timer() {
    run(async {
        let before = metrics().waits;
        for _ in 0..5 {
            sleep(Duration::from_micros(300)).await;
        }
        let n_waits = metrics().waits - before;
        assert!(n_waits <= 20, "{n_waits} waits for five timers");
    })
    .unwrap();
}

#[test]
fn every_duration_is_legal() {
    let long = [
        Duration::from_millis(i32::MAX as u64),
        Duration::from_millis(i32::MAX as u64 + 1),
        Duration::from_secs_f64(24.8 * 86_400.0),
        583 * YEAR,
        584 * YEAR,
        586 * YEAR,
        Duration::from_secs(u64::MAX / 2),
        Duration::MAX,
    ];
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        runtime
            .block_on(async {
                for short in [Duration::ZERO, Duration::from_nanos(1)] {
                    sleep(short).await;
                    timeout(short, pending::<()>()).await.unwrap_err();
                }
                // All armed at once, so that the selector waits for each of them in turn.
                let mut naps: Vec<_> = long.into_iter().rev().map(sleep).collect();
                for nap in &mut naps {
                    assert!(poll_once(nap).await.is_pending());
                    sleep(MS).await;
                    assert!(timeout(MS, pending::<()>()).await.is_err());
                }
                for duration in long {
                    assert_eq!(timeout(duration, sleep(MS)).await, Ok(()));
                    let mut beat = interval(duration);
                    beat.tick().await;
                    assert!(timeout(MS, beat.tick()).await.is_err());
                }
            })
            .unwrap();
    }
}

#[test]
fn a_sleep_of_583_years_ends_and_one_beyond_the_clock_does_not() {
    run_virtual(async {
        let mut beyond = sleep(585 * YEAR);
        let mut never = sleep(Duration::MAX);
        assert_eq!(never.deadline(), None);
        assert!(poll_once(&mut beyond).await.is_pending());
        assert!(poll_once(&mut never).await.is_pending());
        sleep(583 * YEAR).await;
        assert!(poll_once(&mut beyond).await.is_pending());
        assert!(poll_once(&mut never).await.is_pending());
    });
}

#[test]
fn a_sleep_that_is_dropped_or_reset_leaves_no_timer() {
    run_virtual(async {
        let start = now();
        let mut nap = sleep(HOUR);
        assert!(poll_once(&mut nap).await.is_pending());
        assert_eq!(metrics().timers, 1);
        // The same timer, moved: the task that awaits it must not be lost.
        nap.reset(start + 2 * HOUR);
        assert_eq!(metrics().timers, 1);
        nap.await;
        assert_eq!(now() - start, 2 * HOUR);

        let mut nap = sleep(HOUR);
        assert!(poll_once(&mut nap).await.is_pending());
        drop(nap);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn an_elapsed_sleep_can_be_polled_and_reset_again() {
    run_virtual(async {
        let start = now();
        let mut nap = sleep(HOUR);
        (&mut nap).await;
        (&mut nap).await;
        nap.reset(start + 3 * HOUR);
        (&mut nap).await;
        assert_eq!(now() - start, 3 * HOUR);
    });
}

#[test]
fn a_sleep_moved_to_another_task_wakes_that_one() {
    run_virtual(async {
        let start = now();
        let mut nap = Box::pin(sleep(HOUR));
        assert!(poll_once(&mut nap).await.is_pending());
        let task = spawn(async move {
            nap.await;
            now()
        });
        assert_eq!(task.await.unwrap() - start, HOUR);
    });
}

#[test]
fn a_deadline_in_the_past_yields_once() {
    let trace = Trace::default();
    run_virtual(async {
        let inner = trace.clone();
        let other = spawn(async move { inner.push("other") });
        sleep_until(now() - MS).await;
        trace.push("elapsed");
        other.await.unwrap();
    });
    trace.assert(&["other", "elapsed"]);
}

#[test]
fn a_timer_dropped_while_another_fires_does_not_fire() {
    let trace = Trace::default();
    run_virtual(async {
        let (first, second) = (trace.clone(), trace.clone());
        let deadline = now() + HOUR;
        let victim = spawn(async move {
            sleep_until(deadline).await;
            second.push("victim");
        });
        yield_now().await;
        let killer = spawn(async move {
            sleep_until(deadline - MS).await;
            victim.abort();
            first.push(victim.await.unwrap_err());
        });
        killer.await.unwrap();
        assert_eq!(metrics().timers, 0);
    });
    trace.assert(&["task was cancelled"]);
}

#[test]
fn timeout_prefers_a_ready_future() {
    run_virtual(async {
        assert_eq!(timeout(Duration::ZERO, ready(7)).await, Ok(7));
        let error = timeout(HOUR, pending::<()>()).await.unwrap_err();
        assert_eq!(error.to_string(), "deadline has elapsed");
        let io: std::io::Error = error.into();
        assert_eq!(io.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn timeout_drops_the_late_future() {
    let trace = Trace::default();
    run_virtual(async {
        let guard = trace.on_drop("dropped");
        let late = timeout_at(now() + HOUR, async move {
            let _guard = guard;
            pending::<()>().await;
        });
        assert!(late.await.is_err());
        trace.push("late");
    });
    trace.assert(&["dropped", "late"]);
}

#[test]
fn timeout_of_a_future_that_is_always_ready_to_continue_still_ends() {
    let start = Instant::now();
    run(async {
        // Each join is ready; only the budget makes the task yield, so that the timeout is checked.
        let endless = async {
            let mut finished: Vec<_> = Vec::new();
            loop {
                if finished.is_empty() {
                    finished = (0..64).map(|_| spawn(ready(()))).collect();
                    yield_now().await;
                    yield_now().await;
                }
                finished.pop().unwrap().await.unwrap();
            }
        };
        assert!(timeout::<_>(20 * MS, endless).await.is_err());
    })
    .unwrap();
    assert!(start.elapsed() >= 20 * MS);
}

#[test]
fn timeouts_nest() {
    run_virtual(async {
        let start = now();
        let inner_first = timeout(2 * HOUR, timeout(HOUR, pending::<()>())).await;
        assert!(inner_first.unwrap().is_err());
        assert_eq!(now() - start, HOUR);
        let outer_first = timeout(HOUR, timeout(2 * HOUR, pending::<()>())).await;
        assert!(outer_first.is_err());
        assert_eq!(now() - start, 2 * HOUR);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn an_interval_ticks_without_drift() {
    run_virtual(async {
        let start = now();
        let mut beat = interval(10 * MS);
        for i in 0..100 {
            assert_eq!(beat.tick().await - start, i * 10 * MS);
            // Work that is shorter than the period does not shift the ticks.
            sleep(3 * MS).await;
        }
    });
}

#[test]
fn each_missed_tick_behavior_handles_a_stall_as_documented() {
    let ticks = |missed: MissedTickBehavior| {
        run_virtual(async move {
            let start = now();
            let mut beat = interval_at(start + 10 * MS, 10 * MS);
            beat.set_missed_tick_behavior(missed);
            beat.tick().await;
            sleep(35 * MS).await;
            let mut ticks = Vec::new();
            for _ in 0..5 {
                beat.tick().await;
                ticks.push((now() - start).as_millis());
            }
            ticks
        })
    };
    // The stall lasts from 10 to 45 ms.
    assert_eq!(ticks(MissedTickBehavior::Burst), [45, 45, 45, 50, 60]);
    assert_eq!(ticks(MissedTickBehavior::Delay), [45, 55, 65, 75, 85]);
    assert_eq!(ticks(MissedTickBehavior::Skip), [45, 50, 60, 70, 80]);
}

#[test]
fn a_dropped_tick_is_not_lost() {
    run_virtual(async {
        let start = now();
        let mut beat = interval(10 * MS);
        beat.tick().await;
        for _ in 0..3 {
            assert!(timeout(2 * MS, beat.tick()).await.is_err());
        }
        assert_eq!(beat.tick().await - start, 10 * MS);
    });
}

#[test]
fn virtual_time_waits_for_messages_from_other_threads() {
    let runtime = virtual_runtime();
    let handle = runtime.handle();
    let (sent, is_sent) = std::sync::mpsc::channel();
    let far = thread::spawn(move || {
        let task = handle.spawn(async { now() });
        sent.send(()).unwrap();
        util::block_on_elsewhere(task).unwrap()
    });
    is_sent.recv().unwrap();
    let start = runtime
        .block_on(async {
            let start = now();
            sleep(HOUR).await;
            start
        })
        .unwrap();
    assert_eq!(far.join().unwrap(), start);
}

#[test]
#[should_panic(expected = "no runtime on this thread")]
fn a_sleep_polled_outside_a_loop_is_a_clear_panic() {
    let mut nap = pin!(sleep(MS));
    util::block_on_elsewhere(poll_fn(|cx| nap.as_mut().poll(cx)));
}
