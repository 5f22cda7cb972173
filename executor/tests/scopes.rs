//! Aim: a scope ends at its deadline to the nanosecond, and never interrupts a shielded section.

mod util;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    CancelScope, Cancelled, Failure, JoinSet, TaskGroup, current_effective_deadline, gather, join,
    metrics, now, or, run, shielded, sleep, sleep_until, spawn, timeout, yield_now,
};

use util::{ForeignWaker, Trace, group_with_timeout, run_virtual, virtual_runtime};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(31_557_600);

/// What a scope returns that has exceeded its deadline.
static ELAPSED: LazyLock<Cancelled> = LazyLock::new(|| {
    // A separate loop on another thread, because a loop may be running on this one.
    let elapsed = thread::spawn(|| run_virtual(timeout(Duration::ZERO, pending::<()>())));
    Cancelled::Elapsed(elapsed.join().unwrap().unwrap_err())
});

/// Runs `body` in virtual time; returns its output and duration.
fn timed<F: Future>(body: impl FnOnce() -> F) -> (F::Output, Duration) {
    run_virtual(async {
        let start = now();
        let output = body().await;
        assert_eq!(metrics().timers, 0, "a timer is left");
        (output, now() - start)
    })
}

async fn after<T>(seconds: u32, value: T) -> T {
    sleep(seconds * SECOND).await;
    value
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

// Deadlines.

#[test]
fn a_body_that_finishes_in_time_returns_its_value_and_a_late_one_is_dropped_at_the_deadline() {
    let trace = Trace::default();
    let (outcomes, took) = timed(async || {
        let in_time = CancelScope::new().timeout(2 * SECOND).run(async |_| after(1, 7).await).await;
        let late = CancelScope::new()
            .timeout(2 * SECOND)
            .run(async |_| {
                let _guard = trace.on_drop("dropped");
                pending::<()>().await;
            })
            .await;
        trace.push("after");
        (in_time, late)
    });
    assert_eq!(outcomes, (Ok(7), Err(*ELAPSED)));
    assert_eq!(took, 3 * SECOND);
    trace.assert(&["dropped", "after"]);
}

#[test]
fn a_deadline_is_moved_later_earlier_and_removed() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |limit| {
            limit.set_timeout(5 * SECOND);
            sleep(3 * SECOND).await;
            limit.set_deadline(None);
            assert_eq!(limit.deadline(), None);
            sleep(100 * SECOND).await;
            limit.set_timeout(60 * SECOND);
            yield_now().await;
            limit.set_timeout(Duration::from_nanos(1));
            pending::<()>().await;
        })
    });
    assert_eq!(outcome, Err(*ELAPSED));
    assert_eq!(took, 103 * SECOND + Duration::from_nanos(1));
}

#[test]
fn a_deadline_is_moved_from_another_task() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(9 * SECOND).run(async |limit| {
            let limit = limit.clone();
            let mover = spawn(async move {
                sleep(SECOND).await;
                limit.set_timeout(SECOND);
            });
            let outcome = pending::<()>().await;
            mover.await.unwrap();
            outcome
        })
    });
    assert_eq!(outcome, Err(*ELAPSED));
    assert_eq!(took, 2 * SECOND);
}

#[test]
fn a_deadline_in_the_past_cancels_at_the_next_wait_and_a_ready_body_wins() {
    let (outcomes, took) = timed(async || {
        let waited = CancelScope::new().timeout(SECOND).run(async |limit| {
            limit.set_deadline(now() - Duration::from_nanos(1));
            assert!(!limit.is_cancelled());
            sleep(SECOND).await;
        });
        let ready = CancelScope::new().timeout(SECOND).run(async |limit| limit.set_deadline(now()));
        (
            waited.await,
            ready.await,
            CancelScope::new().timeout(Duration::ZERO).run(async |_| 7).await,
        )
    });
    assert_eq!(outcomes, (Err(*ELAPSED), Ok(()), Ok(7)));
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn every_duration_is_legal() {
    let long = [583 * YEAR, 585 * YEAR, Duration::from_secs(u64::MAX / 2), Duration::MAX];
    run_virtual(async {
        for short in [Duration::ZERO, Duration::from_nanos(1)] {
            let start = now();
            let late = CancelScope::new().timeout(short).run(async |_| pending::<()>().await).await;
            assert_eq!((late, now() - start), (Err(*ELAPSED), short));
            let late = group_with_timeout(short, async |_: &TaskGroup<()>| {
                pending::<Result<(), ()>>().await
            });
            assert!(late.await.unwrap_err().is_elapsed());
            assert_eq!(now() - start, 2 * short);
        }
        for duration in long {
            let outcome = CancelScope::new().timeout(duration).run(async |limit| {
                limit.set_timeout(duration);
                sleep(SECOND).await;
            });
            assert_eq!(outcome.await, Ok(()));
            let outcome = group_with_timeout(duration, async |_: &TaskGroup<()>| {
                sleep(SECOND).await;
                Ok(())
            });
            outcome.await.unwrap();
        }
    });
}

#[test]
fn a_deadline_583_years_away_is_exact() {
    let (outcome, took) =
        timed(|| CancelScope::new().timeout(583 * YEAR).run(async |_| pending::<()>().await));
    assert_eq!((outcome, took), (Err(*ELAPSED), 583 * YEAR));
}

#[test]
fn time_runs_from_the_call_and_not_from_the_first_poll() {
    let (outcome, took) = timed(async || {
        let limited = CancelScope::new().timeout(3 * SECOND).run(async |_| pending::<()>().await);
        sleep(2 * SECOND).await;
        limited.await
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 3 * SECOND));
}

#[test]
fn deadlines_hold_on_the_real_clock_as_well() {
    let start = std::time::Instant::now();
    run(async {
        let limit = Duration::from_millis(20);
        let outcome =
            CancelScope::new().timeout(limit).run(async |_| shielded(sleep(2 * limit)).await).await;
        assert_eq!(outcome, Ok(()));
        assert!(
            CancelScope::new().timeout(limit).run(async |_| pending::<()>().await).await.is_err()
        );
    })
    .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_body_that_is_always_ready_still_ends_at_its_deadline() {
    run_virtual(async {
        let outcome = CancelScope::new().timeout(SECOND).run(async |_| {
            loop {
                sleep(Duration::from_millis(1)).await;
            }
        });
        let outcome: Result<(), _> = outcome.await;
        assert_eq!(outcome, Err(*ELAPSED));
    });
}

// Explicit cancellation.

#[test]
fn a_scope_is_cancelled_by_its_body_at_the_next_wait() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().run(async |scope| {
            scope.cancel();
            assert!(scope.is_cancelled() && !scope.is_elapsed());
            trace.push("continues");
            yield_now().await;
            trace.push("never");
        })
    });
    assert_eq!((outcome, took), (Err(Cancelled::Requested), Duration::ZERO));
    trace.assert(&["continues"]);
}

#[test]
fn a_scope_that_another_task_cancels_does_not_continue_even_if_it_was_woken() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().run(async |scope| {
            let (start, handle) = (now(), scope.clone());
            let _canceller = spawn(async move {
                sleep_until(start + SECOND).await;
                handle.cancel();
            });
            yield_now().await;
            // Woken in the same turn, after the task above.
            sleep_until(start + SECOND).await;
            trace.push("never");
        })
    });
    assert_eq!((outcome, took), (Err(Cancelled::Requested), SECOND));
    trace.assert(&[]);
}

#[test]
fn the_first_reason_is_kept() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |limit| {
            shielded(async {
                limit.cancel();
                limit.set_deadline(now());
                sleep(3 * SECOND).await;
                assert!(limit.is_cancelled() && !limit.is_elapsed());
            })
            .await;
            pending::<()>().await;
        })
    });
    assert_eq!((outcome, took), (Err(Cancelled::Requested), 3 * SECOND));
}

#[test]
fn a_handle_to_a_scope_that_has_ended_does_nothing() {
    run_virtual(async {
        let handle =
            CancelScope::new().timeout(SECOND).run(async |limit| limit.clone()).await.unwrap();
        handle.cancel();
        handle.set_deadline(now());
        assert!(!handle.is_cancelled());
        assert_eq!(current_effective_deadline(), None);
    });
}

// Nesting.

#[test]
fn nested_scopes_end_by_the_earliest_deadline() {
    let (outcomes, took) = timed(async || {
        let nested = async |outer: u32, inner: u32| {
            let outcome = CancelScope::new().timeout(outer * SECOND).run(async |_| {
                CancelScope::new()
                    .timeout(inner * SECOND)
                    .run(async |_| pending::<()>().await)
                    .await
            });
            outcome.await
        };
        (nested(9, 1).await, nested(2, 9).await)
    });
    assert_eq!(outcomes, (Ok(Err(*ELAPSED)), Err(*ELAPSED)));
    assert_eq!(took, 3 * SECOND);
}

#[test]
fn the_effective_deadline_is_the_earliest_and_stops_at_a_shield() {
    run_virtual(async {
        let start = now();
        let in_seconds = || current_effective_deadline().map(|at| (at - start).as_secs());
        assert_eq!(in_seconds(), None);
        let outcome = CancelScope::new().timeout(5 * SECOND).run(async |outer| {
            assert_eq!(in_seconds(), Some(5));
            CancelScope::new()
                .timeout(9 * SECOND)
                .run(async |inner| {
                    assert_eq!(in_seconds(), Some(5));
                    inner.set_deadline(start + 3 * SECOND);
                    assert_eq!(in_seconds(), Some(3));
                    let section = async {
                        assert_eq!(in_seconds(), None);
                        let inmost = CancelScope::new()
                            .timeout(7 * SECOND)
                            .run(async |_| in_seconds())
                            .await;
                        assert_eq!(inmost, Ok(Some(7)));
                    };
                    shielded(section).await;
                    inner.set_deadline(None);
                    assert_eq!(in_seconds(), Some(5));
                    outer.set_deadline(None);
                    assert_eq!(in_seconds(), None);
                })
                .await
                .unwrap();
            outer.cancel();
            assert_eq!(current_effective_deadline(), Some(now()));
        });
        outcome.await.unwrap();
        assert_eq!(in_seconds(), None);
    });
}

async fn effective_deadline() -> Option<Instant> {
    current_effective_deadline()
}

#[test]
fn members_and_gathered_futures_are_in_the_scope_and_spawned_tasks_are_not() {
    run_virtual(async {
        CancelScope::new()
            .timeout(5 * SECOND)
            .run(async |limit| {
                let deadline = limit.deadline();
                assert_eq!(spawn(effective_deadline()).await.unwrap(), None);
                assert_eq!(spawn(effective_deadline()).await.unwrap(), None);
                let mut set = JoinSet::new();
                set.spawn(effective_deadline());
                assert_eq!(set.join_next().await.unwrap().unwrap(), None);
                for gathered in gather([effective_deadline(), effective_deadline()]).await {
                    assert_eq!(gathered.unwrap(), deadline);
                }
                let seen = Rc::new(Cell::new(None));
                TaskGroup::scope(async |group: &TaskGroup<()>| {
                    let seen = Rc::clone(&seen);
                    group.cancel_scope().set_timeout(SECOND);
                    group.spawn(async move {
                        seen.set(effective_deadline().await);
                        Ok(())
                    });
                    assert_eq!(effective_deadline().await, group.cancel_scope().deadline());
                    Ok(())
                })
                .await
                .unwrap();
                assert_eq!(seen.get(), Some(now() + SECOND));
            })
            .await
            .unwrap();
    });
}

// Shielded sections.

#[test]
fn a_shielded_section_is_awaited_and_what_follows_it_is_not_run() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |limit| {
            let _guard = trace.on_drop("body dropped");
            let seen = limit.clone();
            shielded(async {
                sleep(3 * SECOND).await;
                assert!(seen.is_elapsed());
                trace.push("section done");
            })
            .await;
            trace.push("continues to the next wait");
            sleep(Duration::ZERO).await;
            trace.push("never");
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 3 * SECOND));
    trace.assert(&["section done", "continues to the next wait", "body dropped"]);
}

#[test]
fn a_body_that_ends_with_its_section_returns_its_value() {
    let (outcome, took) =
        timed(|| CancelScope::new().timeout(SECOND).run(async |_| shielded(after(3, 7)).await));
    assert_eq!((outcome, took), (Ok(7), 3 * SECOND));
}

#[test]
fn a_section_that_starts_after_the_cancellation_is_not_waited_for() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            shielded(sleep(2 * SECOND)).await;
            shielded(async {
                trace.push("begins");
                sleep(SECOND).await;
                trace.push("never");
            })
            .await;
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 2 * SECOND));
    trace.assert(&["begins"]);
}

#[test]
fn sections_that_overlap_indefinitely_do_not_keep_a_scope_alive() {
    let alternate = async |offset: u32| {
        sleep(offset * SECOND).await;
        loop {
            shielded(sleep(2 * SECOND)).await;
        }
    };
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(10 * SECOND).run(async |_| {
            let ((), ()) = join!(alternate(0), alternate(1));
        })
    });
    // At ten seconds one section ends while the other is half done.
    assert_eq!((outcome, took), (Err(*ELAPSED), 12 * SECOND));
}

#[test]
fn a_section_holds_every_scope_around_it() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let inner = CancelScope::new().timeout(2 * SECOND).run(async |_| {
                shielded(async {
                    let own = CancelScope::new()
                        .timeout(SECOND)
                        .run(async |_| pending::<()>().await)
                        .await;
                    assert_eq!(own, Err(*ELAPSED));
                    trace.push("inner deadline");
                    sleep(3 * SECOND).await;
                    trace.push("section done");
                })
                .await;
                pending::<()>().await;
            });
            assert_eq!(inner.await, Err(*ELAPSED));
            trace.push("between the scopes");
            pending::<()>().await;
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 4 * SECOND));
    trace.assert(&["inner deadline", "section done", "between the scopes"]);
}

#[test]
fn nothing_runs_after_an_inner_scope_that_an_outer_one_has_ended() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let held = shielded(sleep(5 * SECOND));
            let retry = async {
                // Without the rule this would loop indefinitely in one poll.
                while CancelScope::new()
                    .run(async |_| {
                        let _guard = trace.on_drop("inner dropped");
                        pending::<()>().await;
                    })
                    .await
                    .is_err()
                {
                    trace.push("never");
                }
            };
            join!(held, retry);
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 5 * SECOND));
    trace.assert(&["inner dropped"]);
}

#[test]
fn a_section_in_a_gathered_task_holds_the_scope() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let section = || {
                let trace = trace.clone();
                async move {
                    shielded(sleep(3 * SECOND)).await;
                    trace.push("section done");
                    pending::<()>().await;
                }
            };
            gather([section(), section()]).await;
        })
    });
    assert_eq!((outcome.unwrap_err(), took), (*ELAPSED, 3 * SECOND));
    trace.assert(&["section done", "section done"]);
}

#[test]
fn a_section_is_dropped_with_the_future_of_its_scope_and_by_a_plain_timeout() {
    let trace = Trace::default();
    let ((), took) = timed(async || {
        let section = async || {
            let _guard = trace.on_drop("section dropped");
            shielded(pending::<()>()).await;
        };
        let limited = CancelScope::new().timeout(SECOND).run(async |_| section().await);
        assert!(timeout(3 * SECOND, limited).await.is_err());
        assert!(timeout(SECOND, section()).await.is_err());
        or(section(), ready(())).await;
    });
    assert_eq!(took, 4 * SECOND);
    trace.assert(&["section dropped", "section dropped", "section dropped"]);
}

#[test]
fn a_dropped_section_releases_its_scope() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            // The plain timeout drops the section although the scope is already cancelled.
            assert!(timeout(3 * SECOND, shielded(pending::<()>())).await.is_err());
            pending::<()>().await;
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 3 * SECOND));
}

#[test]
fn a_section_that_was_never_polled_or_has_ended_holds_nothing() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let _unpolled = shielded(pending::<()>());
            shielded(ready(())).await;
            pending::<()>().await;
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), SECOND));
}

#[test]
fn a_section_without_a_scope_is_just_awaited() {
    assert_eq!(timed(|| shielded(after(3, 7))), (7, 3 * SECOND));
}

// Futures that are polled in several places.

#[test]
fn a_borrowed_scope_outlives_its_borrower() {
    let (outcomes, took) = timed(async || {
        let mut work =
            Box::pin(CancelScope::new().timeout(9 * SECOND).run(async |_| after(5, 7).await));
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            outcomes
                .push(CancelScope::new().timeout(SECOND).run(async |_| (&mut work).await).await);
        }
        (outcomes, work.await)
    });
    assert_eq!(outcomes, (vec![Err(*ELAPSED); 2], Ok(7)));
    assert_eq!(took, 5 * SECOND);
}

#[test]
fn a_section_holds_the_scope_in_which_it_is_polled_and_no_other() {
    let (outcomes, took) = timed(async || {
        let mut section = Box::pin(shielded(sleep(5 * SECOND)));
        // Polled once in this scope and then moved out: the scope may end.
        let mut first = Box::pin(CancelScope::new().run(async |scope| {
            assert!(poll_once(&mut section).await.is_pending());
            scope.clone()
        }));
        let ended = (&mut first).await.unwrap();
        drop(first);
        ended.cancel();
        let second = CancelScope::new().timeout(SECOND).run(async |_| (&mut section).await).await;
        let third = CancelScope::new().timeout(SECOND).run(async |_| pending::<()>().await).await;
        (second, third)
    });
    assert_eq!(outcomes, (Ok(()), Err(*ELAPSED)));
    assert_eq!(took, 6 * SECOND);
}

#[test]
fn a_scope_that_moves_takes_its_sections_along() {
    let (outcomes, took) = timed(async || {
        let mut work =
            Box::pin(CancelScope::new().run(async |_| shielded(sleep(5 * SECOND)).await));
        let first = CancelScope::new().timeout(9 * SECOND).run(async |_| {
            assert!(poll_once(&mut work).await.is_pending());
            // From here on, the future that was polled in this scope continues in the next.
            let second = CancelScope::new().timeout(SECOND).run(async |_| (&mut work).await).await;
            assert_eq!(second, Ok(Ok(())));
            7
        });
        (first.await, CancelScope::new().timeout(SECOND).run(async |_| pending::<()>().await).await)
    });
    assert_eq!(outcomes, (Ok(7), Err(*ELAPSED)));
    assert_eq!(took, 6 * SECOND);
}

#[test]
fn a_scope_moves_to_another_task_with_its_deadline_and_its_section() {
    let (outcome, took) = timed(async || {
        let mut work = Box::pin(CancelScope::new().timeout(SECOND).run(async |_| {
            shielded(sleep(2 * SECOND)).await;
            pending::<()>().await;
        }));
        assert!(poll_once(&mut work).await.is_pending());
        spawn(work).await.unwrap()
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 2 * SECOND));
}

#[test]
fn a_scope_that_awaits_itself_from_a_task_does_not_form_a_cycle() {
    type Slot = Rc<RefCell<Option<Pin<Box<dyn Future<Output = Result<(), Cancelled>>>>>>>;
    let slot = Slot::default();
    let inside = Rc::clone(&slot);
    run_virtual(async move {
        let future = CancelScope::new().run(async move |_| {
            // The gathered task is in the scope, and polls the scope's future.
            let take = async move {
                yield_now().await;
                let future = inside.borrow_mut().take().expect("it was put there");
                timeout(SECOND, future).await.is_err()
            };
            gather([take]).await;
        });
        let mut future: Pin<Box<dyn Future<Output = _>>> = Box::pin(future);
        assert!(poll_once(&mut future).await.is_pending());
        *slot.borrow_mut() = Some(future);
        sleep(2 * SECOND).await;
        assert!(slot.borrow().is_none());
    });
}

#[test]
fn a_scope_without_a_deadline_works_under_any_executor_and_wakes_foreign_wakers() {
    let (foreign, waker) = ForeignWaker::new();
    let mut handle: Option<CancelScope> = None;
    let section_done = Rc::new(Cell::new(false));
    let mut body = pin!(CancelScope::new().run(async |scope| {
        handle = Some(scope.clone());
        let section = poll_fn(|_| if section_done.get() { Poll::Ready(()) } else { Poll::Pending });
        shielded(section).await;
        pending::<()>().await;
    }));
    let mut cx = Context::from_waker(&waker);
    assert!(body.as_mut().poll(&mut cx).is_pending());
    assert_eq!(foreign.n_wakes(), 0);
    section_done.set(true);
    assert!(body.as_mut().poll(&mut cx).is_pending());
    assert_eq!(foreign.n_wakes(), 0, "a scope alone wakes no task");
}

#[test]
fn cancelling_wakes_a_foreign_waker_once() {
    let (foreign, waker) = ForeignWaker::new();
    let handle: RefCell<Option<CancelScope>> = RefCell::default();
    let mut body = pin!(CancelScope::new().run(async |scope| {
        *handle.borrow_mut() = Some(scope.clone());
        pending::<()>().await;
    }));
    let mut cx = Context::from_waker(&waker);
    assert!(body.as_mut().poll(&mut cx).is_pending());
    let handle = handle.borrow().clone().unwrap();
    for _ in 0..3 {
        handle.cancel();
    }
    assert_eq!(foreign.n_wakes(), 1);
    assert_eq!(body.poll(&mut cx), Poll::Ready(Err(Cancelled::Requested)));
}

// Panics.

#[test]
fn a_panic_leaves_the_scope_and_the_thread_knows_it() {
    run_virtual(async {
        let task = spawn(async {
            CancelScope::new()
                .timeout(SECOND)
                .run(async |_| shielded(async { panic!("in a section") }).await)
                .await
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(current_effective_deadline(), None);
        let mut body = Box::pin(CancelScope::new().timeout(SECOND).run(async |_| {
            yield_now().await;
            panic!("in a body")
        }));
        let polled: Poll<Result<(), _>> = poll_once(&mut body).await;
        assert!(polled.is_pending());
        let caught = poll_fn(|cx| {
            Poll::Ready(catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx).is_ready())))
        });
        assert!(caught.await.is_err());
        assert_eq!(current_effective_deadline(), None);
        drop(body);
        assert_eq!(metrics().timers, 0);
    });
}

#[test]
fn a_panicking_section_in_a_child_releases_the_outer_scopes() {
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let group = TaskGroup::scope(async |group: &TaskGroup<()>| {
                group.spawn(shielded(async {
                    sleep(2 * SECOND).await;
                    panic!("section")
                }));
                Ok(())
            });
            let error = group.await.unwrap_err();
            assert!(matches!(error.failures(), [Failure::Panicked(_)]));
            pending::<()>().await;
        })
    });
    assert_eq!((outcome, took), (Err(*ELAPSED), 2 * SECOND));
}

#[test]
fn a_scope_that_was_cancelled_before_it_runs_does_not_poll_its_body() {
    run_virtual(async {
        let scope = CancelScope::new();
        scope.cancel();
        let outcome: Result<(), _> = scope.run(async |_| unreachable!("it was polled")).await;
        assert_eq!(outcome, Err(Cancelled::Requested));
        let outcome = CancelScope::new().timeout_at(now()).run(async |_| 7).await;
        assert_eq!(outcome, Ok(7));
    });
}

#[test]
fn a_scope_runs_once() {
    run_virtual(async {
        let scope = CancelScope::new();
        let again = scope.clone();
        scope.run(async |_| ()).await.unwrap();
        assert!(spawn(async move { again.run(async |_| ()).await }).await.unwrap_err().is_panic());
        TaskGroup::<()>::scope(async |group| {
            let scope = group.cancel_scope().clone();
            let again = spawn(async move { scope.run(async |_| ()).await });
            assert!(again.await.unwrap_err().is_panic());
            Ok(())
        })
        .await
        .unwrap();
    });
}

// Groups.

#[test]
fn at_its_deadline_a_group_cancels_body_and_children_and_returns_an_error() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        group_with_timeout(SECOND, async |group: &TaskGroup<&str>| {
            let guard = trace.on_drop("child dropped");
            group.spawn(async move {
                let _guard = guard;
                pending().await
            });
            group.spawn(after(0, Ok(())));
            let _guard = trace.on_drop("body dropped");
            pending::<Result<(), _>>().await
        })
    });
    let error = outcome.unwrap_err();
    assert!(error.is_elapsed());
    assert!(matches!(error.failures(), [Failure::Cancelled(Cancelled::Elapsed(_))]));
    assert_eq!(error.to_string(), "deadline has elapsed");
    assert_eq!(took, SECOND);
    trace.assert(&["body dropped", "child dropped"]);
}

#[test]
fn a_group_waits_for_its_shielded_children_only_and_keeps_their_failures() {
    let trace = Trace::default();
    let begin_trace = trace.clone();
    let (outcome, took) = timed(|| {
        group_with_timeout(SECOND, async move |group: &TaskGroup<&str>| {
            let start = now();
            let trace = begin_trace;
            let note =
                move |what: &str| trace.push(format!("{what} at {}", (now() - start).as_secs()));
            let (n1, n2, n3) = (note.clone(), note.clone(), note.clone());
            group.spawn(async move {
                shielded(sleep(3 * SECOND)).await;
                n1("first section done");
                pending().await
            });
            group.spawn(async move {
                shielded(async {
                    sleep(2 * SECOND).await;
                    n2("second section fails");
                    Err("second")
                })
                .await
            });
            group.spawn(async move {
                let _guard = util::OnDrop(move || n3("third dropped"));
                pending().await
            });
            let _guard = util::OnDrop(move || note("body dropped"));
            pending::<Result<(), _>>().await
        })
    });
    let error = outcome.unwrap_err();
    assert!(error.is_elapsed());
    let failures = error.into_failures();
    assert!(
        matches!(
            failures[..],
            [Failure::Cancelled(Cancelled::Elapsed(_)), Failure::Error("second")]
        ),
        "{failures:?}"
    );
    assert_eq!(took, 3 * SECOND);
    trace.assert(&[
        "body dropped at 1",
        "third dropped at 1",
        "second section fails at 2",
        "first section done at 3",
    ]);
}

#[test]
fn a_group_that_is_late_without_cancelling_anything_returns_its_value() {
    let (outcome, took) = timed(|| {
        group_with_timeout(SECOND, async |group: &TaskGroup<()>| {
            group.spawn(shielded(after(2, Ok(()))));
            shielded(after(3, Ok(7))).await
        })
    });
    assert_eq!((outcome.unwrap(), took), (7, 3 * SECOND));
}

#[test]
fn a_failure_waits_for_shielded_siblings_and_keeps_their_errors() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        TaskGroup::scope(async |group: &TaskGroup<&str>| {
            let (inner, guard) = (trace.clone(), trace.on_drop("sibling dropped"));
            group.spawn(after(1, Err("first")));
            group.spawn(async move {
                let _guard = guard;
                pending().await
            });
            group.spawn(shielded(async move {
                sleep(2 * SECOND).await;
                inner.push("shielded sibling done");
                Err("second")
            }));
            shielded(after(4, Ok(()))).await
        })
    });
    let error = outcome.unwrap_err();
    assert_eq!(error.to_string(), "first; second");
    assert!(!error.is_elapsed());
    assert_eq!(took, 4 * SECOND);
    trace.assert(&["sibling dropped", "shielded sibling done"]);
}

#[test]
fn a_failure_cancels_unshielded_parts_of_a_held_body_at_once() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        TaskGroup::scope(async |group: &TaskGroup<&str>| {
            let start = now();
            group.spawn(after(1, Err("first")));
            let inner = trace.clone();
            let nested = TaskGroup::scope(async |nested: &TaskGroup<&str>| {
                nested.spawn(async move {
                    let _guard = util::OnDrop(move || inner.push((now() - start).as_secs()));
                    pending().await
                });
                Ok(())
            });
            let ((), _never) = join!(shielded(sleep(3 * SECOND)), nested);
            Ok(())
        })
    });
    assert_eq!((outcome.unwrap_err().to_string().as_str(), took), ("first", 3 * SECOND));
    trace.assert(&["1"]);
}

#[test]
fn a_group_gets_a_deadline_and_is_cancelled_from_outside() {
    let (outcome, took) = timed(|| {
        TaskGroup::scope(async |group: &TaskGroup<()>| {
            group.cancel_scope().set_timeout(9 * SECOND);
            let handle = group.cancel_scope().clone();
            let _canceller = spawn(async move {
                sleep(SECOND).await;
                handle.cancel();
            });
            group.spawn(pending());
            Ok(())
        })
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error.failures(), [Failure::Cancelled(Cancelled::Requested)]));
    assert_eq!(took, SECOND);
}

#[test]
fn a_child_of_a_cancelled_group_never_starts() {
    let trace = Trace::default();
    let (outcome, _) = timed(|| {
        TaskGroup::scope(async |group: &TaskGroup<&str>| {
            let (inner, guard) = (trace.clone(), trace.on_drop("dropped"));
            group.cancel_scope().cancel();
            group.spawn(async move {
                let _guard = guard;
                inner.push("never");
                Ok(())
            });
            Ok(())
        })
    });
    assert_eq!(outcome.unwrap_err().to_string(), "scope was cancelled");
    trace.assert(&["dropped"]);
}

#[test]
fn the_deadline_of_an_outer_scope_cancels_unshielded_members_of_a_group_at_once() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        CancelScope::new().timeout(SECOND).run(async |_| {
            let start = now();
            let inner = trace.clone();
            let note =
                move |what: &str| inner.push(format!("{what} at {}", (now() - start).as_secs()));
            let (n1, n2, n3) = (note.clone(), note.clone(), note.clone());
            // A group in a child of a group, so that only the groups can reach the innermost.
            let outcome = TaskGroup::scope(async |outer: &TaskGroup<()>| {
                outer.spawn(async move {
                    let inner = TaskGroup::scope(async |inner: &TaskGroup<()>| {
                        inner.spawn(async move {
                            shielded(sleep(3 * SECOND)).await;
                            n1("section done");
                            pending().await
                        });
                        inner.spawn(async move {
                            let _guard = util::OnDrop(move || n2("sibling dropped"));
                            pending().await
                        });
                        Ok(())
                    });
                    let _never = inner.await;
                    unreachable!("the outer deadline has cancelled this")
                });
                let _guard = util::OnDrop(move || n3("body dropped"));
                pending::<Result<(), ()>>().await
            });
            let _never = outcome.await;
            unreachable!("the outer deadline has cancelled this")
        })
    });
    assert_eq!((outcome, took), (Err::<(), _>(*ELAPSED), 3 * SECOND));
    trace.assert(&["body dropped at 1", "sibling dropped at 1", "section done at 3"]);
}

#[test]
fn a_group_emptied_by_an_outer_scope_returns_an_error_if_polled_elsewhere() {
    run_virtual(async {
        let mut group = Box::pin(TaskGroup::scope(async |group: &TaskGroup<()>| {
            group.spawn(pending());
            pending::<Result<(), ()>>().await
        }));
        let outcome = CancelScope::new().timeout(SECOND).run(async |_| {
            join!(shielded(sleep(2 * SECOND)), async { (&mut group).await.is_ok() })
        });
        assert_eq!(outcome.await, Err(*ELAPSED));
        assert!(group.await.unwrap_err().is_elapsed());
        assert_eq!(metrics().tasks, 0);
    });
}

#[test]
fn dropping_a_group_drops_its_shielded_children_as_well() {
    let trace = Trace::default();
    let (outcome, took) = timed(|| {
        timeout(
            SECOND,
            group_with_timeout(9 * SECOND, async |group: &TaskGroup<()>| {
                let guard = trace.on_drop("child dropped");
                group.spawn(shielded(async move {
                    let _guard = guard;
                    pending().await
                }));
                Ok(())
            }),
        )
    });
    assert!(outcome.is_err());
    assert_eq!(took, SECOND);
    trace.assert(&["child dropped"]);
}

#[test]
fn a_body_that_panics_drops_its_children() {
    run_virtual(async {
        let trace = Trace::default();
        let guard = trace.on_drop("child dropped");
        let task = spawn(async move {
            TaskGroup::scope(async |group: &TaskGroup<()>| {
                group.spawn(async move {
                    let _guard = guard;
                    shielded(pending()).await
                });
                yield_now().await;
                yield_now().await;
                panic!("body");
                #[allow(unreachable_code)]
                Ok(())
            })
            .await
        });
        assert!(task.await.unwrap_err().is_panic());
        trace.assert(&["child dropped"]);
        assert_eq!(metrics().tasks, 0);
    });
}

#[test]
fn a_thousand_shielded_children_are_awaited_without_spurious_polls() {
    let runtime = virtual_runtime();
    let n_polls = runtime
        .block_on(async {
            let outcome = group_with_timeout(SECOND, async |group: &TaskGroup<()>| {
                for i in 0..1_000 {
                    group.spawn(async move {
                        shielded(sleep(2 * SECOND + i * Duration::from_millis(1))).await;
                        pending().await
                    });
                }
                Ok(())
            });
            assert!(outcome.await.unwrap_err().is_elapsed());
            metrics().polls
        })
        .unwrap();
    // A child is polled at its start, at the cancellation and when its section ends; the group when a child ends.
    assert!(n_polls < 5_000, "{n_polls}");
}

#[test]
fn a_child_whose_destructor_panics_on_cancellation_is_reported() {
    let (outcome, _) = timed(|| {
        group_with_timeout(SECOND, async |group: &TaskGroup<&str>| {
            group.spawn(async {
                let _bomb = util::OnDrop(|| panic!("bomb"));
                pending().await
            });
            Ok(())
        })
    });
    assert!(matches!(outcome.unwrap_err().failures(), [Failure::Panicked(_)]));
}

#[test]
fn groups_nest_deeply_through_tasks() {
    fn nest(depth: u32) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>>>> {
        Box::pin(async move {
            if depth == 0 {
                return shielded(after(3, Ok(()))).await;
            }
            let outcome = TaskGroup::scope(async |group: &TaskGroup<Cancelled>| {
                group.spawn(nest(depth - 1));
                Ok(())
            });
            outcome.await.map_err(|_| unreachable!("the outermost scope has cancelled this"))
        })
    }
    let (outcome, took) =
        timed(|| CancelScope::new().timeout(SECOND).run(async |_| nest(1_000).await));
    // The section ends in a deeply nested task; then nothing holds the outermost scope.
    assert_eq!((outcome, took), (Err(*ELAPSED), 3 * SECOND));
}

#[test]
fn groups_nest_deeply_in_one_task() {
    fn nest(depth: usize) -> Pin<Box<dyn Future<Output = usize>>> {
        Box::pin(async move {
            if depth == 0 {
                yield_now().await;
                return 0;
            }
            let group = TaskGroup::<()>::scope(async |_| Ok(nest(depth - 1).await));
            group.await.unwrap() + 1
        })
    }
    const DEPTH: usize = 1_000;
    let nested = || {
        run_virtual(async {
            let mut nested = nest(DEPTH);
            let mut n_polls = 0;
            poll_fn(|cx| {
                n_polls += 1;
                assert!(n_polls < 100, "the outer groups spend the budget of the inner ones");
                nested.as_mut().poll(cx)
            })
            .await
        })
    };
    // A deep future needs a deep stack.
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(nested).unwrap();
    assert_eq!(thread.join().unwrap(), DEPTH);
}

// Tasks that outlive a scope.

#[test]
fn a_spawned_task_outlives_the_scope_that_awaits_it() {
    run_virtual(async {
        let start = now();
        let trace = Trace::default();
        let inner = trace.clone();
        let mut saving = spawn(async move {
            sleep(3 * SECOND).await;
            inner.push("saved");
            7
        });
        assert!(timeout(SECOND, &mut saving).await.is_err());
        let outcome =
            CancelScope::new().timeout(SECOND).run(async |_| (&mut saving).await.unwrap()).await;
        assert_eq!((outcome, now() - start), (Err(*ELAPSED), 2 * SECOND));
        assert_eq!(saving.await.unwrap(), 7);
        // Also without a handle to it.
        let inner = trace.clone();
        drop(spawn(async move {
            sleep(SECOND).await;
            inner.push("saved again");
        }));
        sleep(2 * SECOND).await;
        trace.assert(&["saved", "saved again"]);
    });
}

#[test]
fn the_failure_of_a_spawned_task_is_a_join_error() {
    run_virtual(async {
        let error = spawn(async { panic!("inner") }).await.unwrap_err();
        assert_eq!(error.to_string(), "task panicked: inner");
        let aborted = spawn(pending::<()>());
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
    });
}
