//! Aim: a program that hangs, is slow or has lost a panic reports the cause.

mod util;

use std::cell::RefCell;
use std::future::{pending, poll_fn, ready};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use polyloop_executor::task::{TaskInfo, TaskState, WaitReason};
use polyloop_executor::{
    Builder, CancellationToken, JoinHandle, JoinSet, Report, Runtime, TaskGroup, channel, gather,
    run, sleep, spawn, spawn_blocking, task, timeout, yield_now,
};
use polyloop_reactor::SignalFd;

use util::{run_virtual, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

/// Describes one task.
fn see<T>(handle: &JoinHandle<T>) -> TaskInfo {
    let found = task::all().into_iter().find(|task| Some(task.id) == handle.id());
    found.expect("the task exists")
}

#[test]
fn a_task_is_listed_from_its_spawn_to_its_join() {
    run_virtual(async {
        let task = spawn(async {
            yield_now().await;
            sleep(Duration::from_secs(5)).await;
        });
        let seen = see(&task);
        assert_eq!((seen.state, seen.polls), (TaskState::Ready, 0));
        assert_eq!(seen.parent, task::current());
        assert!(seen.spawned_at.file().ends_with("seeing.rs"));
        yield_now().await;
        assert_eq!((see(&task).state, see(&task).polls), (TaskState::Ready, 1));
        yield_now().await;
        assert_eq!((see(&task).state, see(&task).polls), (TaskState::Waiting, 2));
        sleep(Duration::from_secs(9)).await;
        assert_eq!((see(&task).state, see(&task).polls), (TaskState::Finished, 3));
        let n_tasks = task::all().len();
        task.await.unwrap();
        assert_eq!(task::all().len(), n_tasks - 1);
    });
}

#[test]
fn a_task_sees_itself_running_below_the_one_that_spawned_it() {
    run(async {
        let child = spawn(async {
            let own = task::current();
            let seen = task::all().into_iter().find(|task| Some(task.id) == own).unwrap();
            assert_eq!(seen.state, TaskState::Running);
            let grandchild = spawn(pending::<()>());
            assert_eq!(see(&grandchild).parent, own);
            seen.parent
        });
        assert_eq!(child.await.unwrap(), task::current());
        let main = &task::all()[0];
        assert!(main.id.is_main() && main.state == TaskState::Running && main.parent.is_none());
    })
    .unwrap();
}

#[test]
fn tasks_of_a_combinator_have_the_location_of_its_caller() {
    run(async {
        let seen = async || spawn(async { task::all() }).await.unwrap();
        let gathered = gather([seen(), seen()]).await.swap_remove(0).unwrap();
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        let grouped = TaskGroup::scope(async |group: &TaskGroup<()>| {
            group.spawn(pending());
            let all = task::all();
            group.cancel_scope().cancel();
            Ok::<_, ()>(all)
        });
        drop(grouped.await);
        for seen in gathered.into_iter().chain(task::all()) {
            assert!(seen.spawned_at.file().ends_with("seeing.rs"), "{seen}");
        }
    })
    .unwrap();
}

#[test]
fn a_task_spawned_from_outside_has_no_parent() {
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(pending::<()>());
    runtime.block_on(async { assert_eq!(see(&task).parent, None) }).unwrap();
    // `block_on` has returned.
    let dump = runtime.dump();
    assert!(dump.tasks().iter().all(|task| !task.id.is_main()), "{dump}");
}

#[test]
fn every_kind_of_wait_has_its_reason() {
    run_virtual(async {
        let (sender, mut receiver) = channel::bounded::<u8>(1);
        let (_local_sender, mut local_receiver) = channel::local::unbounded::<u8>();
        sender.try_send(1).unwrap();
        let token = CancellationToken::new();
        let other = spawn(pending::<()>());
        let id = other.id().unwrap();
        let (release, gate) = mpsc::channel::<()>();
        let held = token.clone();
        let waiting = [
            spawn(sleep(Duration::from_secs(3))),
            spawn(async move { drop(other.await) }),
            spawn(async move { sender.send(2).await.unwrap() }),
            spawn(async move { assert_eq!(local_receiver.recv().await, None) }),
            spawn(async move { held.cancelled().await }),
            spawn(async move { drop(spawn_blocking(move || gate.recv()).await) }),
            spawn(async {
                let mut set = JoinSet::new();
                set.spawn(pending::<()>());
                set.join_next().await;
            }),
            spawn(pending()),
            spawn(poll_fn(|cx| {
                // As a future of another crate would.
                std::mem::forget(cx.waker().clone());
                Poll::<()>::Pending
            })),
        ];
        for _ in 0..3 {
            yield_now().await;
        }
        let reasons: Vec<_> = waiting.iter().flat_map(|task| see(task).waits_for).collect();
        let expected = [
            WaitReason::Timer { left: Duration::from_secs(3) },
            WaitReason::Join(id),
            WaitReason::Capacity,
            WaitReason::Message,
            WaitReason::Cancellation,
            WaitReason::OtherThread,
            WaitReason::Tasks,
            WaitReason::Nothing,
            WaitReason::Foreign,
        ];
        assert_eq!(reasons, expected);
        release.send(()).unwrap();
        assert_eq!(receiver.recv().await, Some(1));
    });
}

#[test]
fn a_task_that_waits_for_two_things_has_both_reasons_and_loses_the_old_ones() {
    run_virtual(async {
        let (sender, mut receiver) = channel::local::unbounded::<u8>();
        let task = spawn(async move {
            timeout(Duration::from_secs(7), receiver.recv()).await.unwrap();
            sleep(Duration::from_secs(2)).await;
        });
        yield_now().await;
        let timer = |secs| WaitReason::Timer { left: Duration::from_secs(secs) };
        assert_eq!(see(&task).waits_for, [timer(7), WaitReason::Message]);
        sender.send(1).unwrap();
        yield_now().await;
        assert_eq!(see(&task).waits_for, [timer(2)]);
    });
}

#[test]
fn the_tree_shows_names_places_and_reasons() {
    let runtime = Builder::new().virtual_time(true).debug(false).build().unwrap();
    let dump = runtime.block_on(async {
        let acceptor = spawn(async {
            spawn(sleep(Duration::from_secs(3))).named("connection");
            task::set_name("acceptor");
            pending::<()>().await;
        });
        drop(acceptor);
        for _ in 0..3 {
            yield_now().await;
        }
        task::dump().to_string()
    });
    let dump = dump.unwrap();
    let lines: Vec<_> = dump.lines().collect();
    assert!(lines[0].starts_with("main at ") && lines[0].ends_with("runs"), "{dump}");
    assert!(lines[1].starts_with("└─ task 1") && lines[1].contains("\"acceptor\" at "), "{dump}");
    assert!(lines[1].ends_with("polled 1 time, waits for nothing that could wake it"), "{dump}");
    assert!(lines[2].starts_with("   └─ task 2"), "{dump}");
    assert!(lines[2].contains("\"connection\" at "), "{dump}");
    assert!(lines[2].ends_with("waits for timer in 3s"), "{dump}");
    assert_eq!(lines.len(), 3);
}

/// A loop in debug mode whose reports are kept.
fn debugged(slow_poll: Duration) -> (Runtime, Rc<RefCell<Vec<Report>>>) {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let seen = reports.clone();
    let reporter = move |report: &Report| seen.borrow_mut().push(report.clone());
    let builder = Builder::new().debug(true).slow_poll(slow_poll).reporter(reporter);
    (builder.build().unwrap(), reports)
}

#[test]
fn a_slow_poll_is_reported_with_its_name_place_and_time() {
    const SLOW: Duration = Duration::from_millis(20);
    let (runtime, reports) = debugged(SLOW);
    runtime
        .block_on(async {
            let slow = spawn(async {
                yield_now().await;
                thread::sleep(SLOW);
            });
            slow.named("slow").await.unwrap();
            spawn(async {}).await.unwrap();
        })
        .unwrap();
    let reports = reports.borrow();
    let [Report::SlowPoll { task, took }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((task.name.as_deref(), task.polls), (Some("slow"), 2));
    assert!(*took >= SLOW && task.busy.unwrap() >= *took);
    let text = reports[0].to_string();
    assert!(text.starts_with("a poll took ") && text.contains("seeing.rs"), "{text}");
}

#[test]
fn a_slow_first_poll_of_the_main_future_is_reported_too() {
    let (runtime, reports) = debugged(Duration::from_millis(5));
    runtime.block_on(async { thread::sleep(Duration::from_millis(5)) }).unwrap();
    let reports = reports.borrow();
    let [Report::SlowPoll { task, .. }] = &reports[..] else { panic!("{reports:?}") };
    assert!(task.id.is_main() && task.spawned_at.file().ends_with("seeing.rs"));
}

#[test]
fn a_panic_is_reported_unless_it_is_joined() {
    let (runtime, reports) = debugged(LIMIT);
    let handle = runtime.handle();
    let kept = runtime
        .block_on(async {
            let boom = || async { panic!("boom") };
            assert!(spawn(boom()).await.is_err());
            // Dropped before and after its completion.
            drop(spawn(boom()).named("before"));
            let after = spawn(boom()).named("after");
            yield_now().await;
            drop(after);
            drop(handle.spawn(boom()));
            // Not taken until the loop ends.
            let kept = spawn(boom()).named("kept");
            for _ in 0..200 {
                yield_now().await;
            }
            [kept]
        })
        .unwrap();
    drop(runtime);
    drop::<[JoinHandle<()>; 1]>(kept);
    let lost: Vec<_> = reports
        .borrow()
        .iter()
        .map(|report| match report {
            Report::LostPanic { task, message } => {
                assert_eq!(message, "task panicked: boom");
                task.name.clone()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(lost.len(), 4, "{lost:?}");
    for name in [named("before"), named("after"), named("kept"), None] {
        assert!(lost.contains(&name), "{name:?} among {lost:?}");
    }
}

#[test]
fn a_reporter_that_panics_ends_nothing() {
    let builder = Builder::new().debug(true).slow_poll(Duration::ZERO);
    let runtime = builder.reporter(|_| panic!("reporter")).build().unwrap();
    assert_eq!(runtime.block_on(async { spawn(ready(7)).await }).unwrap().unwrap(), 7);
}

#[track_caller]
fn assert_stuck<T>(outcome: io::Result<T>, reasons: &[&str]) {
    let error = outcome.err().expect("a deadlock is an error");
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
    for reason in reasons {
        assert!(error.to_string().contains(reason), "{reason:?} in {error}");
    }
}

#[test]
fn a_deadlocked_loop_returns_an_error_that_names_every_task() {
    with_watchdog(LIMIT, || {
        let (runtime, _) = debugged(LIMIT);
        assert_stuck(runtime.block_on(pending::<()>()), &["main at", "waits for nothing"]);
        let circle = runtime.block_on(async {
            let (to_second, mut from_first) = channel::local::unbounded::<()>();
            let (to_first, mut from_second) = channel::local::unbounded::<()>();
            let first = spawn(async move {
                from_second.recv().await;
                to_second.send(()).unwrap();
            });
            let second = spawn(async move {
                from_first.recv().await;
                to_first.send(()).unwrap();
            });
            drop(first.named("first").await);
            drop(second.named("second").await);
        });
        assert_stuck(circle, &["\"first\"", "waits for a message", "the end of task"]);
        let set = runtime.block_on(async {
            let mut set = JoinSet::new();
            set.spawn(pending::<()>());
            set.join_next().await;
        });
        assert_stuck(set, &["the tasks of a set"]);
        // The loop still works.
        assert_eq!(runtime.block_on(async { spawn(ready(7)).await }).unwrap().unwrap(), 7);
    });
}

#[test]
fn a_loop_that_another_thread_may_wake_waits() {
    with_watchdog(LIMIT, || {
        let (runtime, _) = debugged(LIMIT);
        // A channel between threads.
        let (sender, mut receiver) = channel::unbounded::<u8>();
        let received = runtime.block_on(async {
            let sends = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                sender.send(7).unwrap();
            });
            let received = receiver.recv().await;
            sends.join().unwrap();
            received
        });
        assert_eq!(received.unwrap(), Some(7));
        // Blocking work.
        let nap = || thread::sleep(Duration::from_millis(20));
        runtime.block_on(async { spawn_blocking(nap).await.unwrap() }).unwrap();
        // A foreign future.
        let mut thread = None;
        let foreign = poll_fn(|cx| {
            if thread.is_none() {
                let waker = cx.waker().clone();
                thread = Some(thread::spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    waker.wake();
                }));
                return Poll::Pending;
            }
            Poll::Ready(())
        });
        runtime.block_on(foreign).unwrap();
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn a_listener_for_dumps_does_not_keep_a_loop_from_being_stuck() {
    with_watchdog(LIMIT, || {
        let builder = Builder::new().debug(true).dump_on(SignalFd::WINDOW_CHANGE);
        let runtime = builder.build().unwrap();
        // The listener for the signal does not prevent a deadlock report.
        assert_stuck(runtime.block_on(pending::<()>()), &["\"dump\"", "readable fd"]);
    });
}

#[test]
fn invalid_signals_are_refused() {
    assert!(Builder::new().dump_on(-1).build().is_err());
    assert!(Builder::new().dump_on(9).build().is_err());
}
