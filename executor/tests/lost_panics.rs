//! Debug mode reports every panic of a task or job whose outcome is not received.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    BlockingPool, Builder, Handle, JoinSet, Report, Runtime, TaskGroup, Until, as_completed,
    gather, race, spawn, spawn_blocking, try_gather, wait, yield_now,
};

/// The texts of the reports, in order.
type Lost = Rc<RefCell<Vec<String>>>;

/// A loop in debug mode, and the lost panics that it reports.
fn debugged() -> (Runtime, Lost) {
    let lost = Lost::default();
    let seen = Rc::clone(&lost);
    let reporter = move |report: &Report| match report {
        Report::LostPanic { task, message } => {
            assert!(task.spawned_at.file().ends_with("lost_panics.rs"), "{report}");
            seen.borrow_mut().push(message.clone());
        }
        Report::LostJobPanic { spawned_at, message, .. } => {
            assert!(spawned_at.file().ends_with("lost_panics.rs"), "{report}");
            seen.borrow_mut().push(message.clone());
        }
        other => panic!("{other}"),
    };
    let builder = Builder::new().debug(true).slow_poll(Duration::from_secs(60));
    (builder.reporter(reporter).build().unwrap(), lost)
}

/// Runs `future` on a loop in debug mode, drops the loop, and returns its reports.
fn lost_in<F: Future>(future: F) -> Vec<String> {
    let (runtime, lost) = debugged();
    drop(runtime.block_on(future).unwrap());
    drop(runtime);
    lost.take()
}

async fn boom(what: &'static str) {
    yield_now().await;
    panic!("{what}");
}

/// The body of a job: panics.
fn fail(what: &str) {
    panic!("{what}");
}

/// Lets the other tasks finish.
async fn rest() {
    for _ in 0..300 {
        yield_now().await;
    }
}

/// Polls `future` for a while, and drops it.
async fn start(future: impl Future) {
    race(async { drop(future.await) }, rest()).await;
}

#[test]
fn of_a_join_set_that_is_dropped_or_detached() {
    let dropped = lost_in(async {
        let mut set = JoinSet::new();
        set.spawn(boom("first"));
        set.spawn(boom("second"));
        rest().await;
        assert!(set.join_next().await.unwrap().unwrap_err().is_panic());
    });
    assert_eq!(dropped, ["task panicked: second"]);
    let detached = lost_in(async {
        let mut set = JoinSet::new();
        set.spawn(boom("before"));
        rest().await;
        set.spawn(boom("after"));
        set.detach_all();
        rest().await;
    });
    assert_eq!(detached, ["task panicked: before", "task panicked: after"]);
    let aborted = lost_in(async {
        let mut set = JoinSet::new();
        set.spawn(pending::<()>());
        set.abort_all();
    });
    assert!(aborted.is_empty(), "{aborted:?}");
}

#[test]
fn of_as_completed_and_wait() {
    let lost = lost_in(async {
        let mut done = as_completed(["first", "second"].map(boom));
        rest().await;
        assert!(done.join_next().await.unwrap().is_err());
        drop(done);
        let mut done = as_completed(["third"].map(boom));
        assert!(done.join_next().await.unwrap().is_err());
    });
    assert_eq!(lost, ["task panicked: second"]);
    let lost = lost_in(async {
        start(wait([spawn(boom("dropped")), spawn(pending())], Until::All, None)).await;
        let waited = wait([spawn(boom("taken"))], Until::All, None).await;
        assert!(waited.done[0].1.is_err());
    });
    assert_eq!(lost, ["task panicked: dropped"]);
}

#[test]
fn of_gather_that_is_dropped_and_of_try_gather_behind_the_first() {
    let lost = lost_in(async {
        assert!(gather(["returned"].map(boom)).await[0].is_err());
        let ends_or_not =
            |i| async move { if i == 0 { boom("dropped").await } else { pending().await } };
        start(gather([0, 1].map(ends_or_not))).await;
    });
    assert_eq!(lost, ["task panicked: dropped"]);
    let fails = |what| async move {
        boom(what).await;
        Ok::<(), ()>(())
    };
    let lost = lost_in(async {
        let first = try_gather(["returned", "second"].map(fails)).await;
        assert!(first.is_err());
    });
    assert_eq!(lost, ["task panicked: second"]);
}

#[test]
fn of_the_children_of_a_scope_that_is_dropped() {
    let members = async |group: &TaskGroup<()>| {
        group.spawn(async {
            boom("child").await;
            Ok(())
        });
        polyloop_executor::shielded(pending::<()>()).await;
        Ok(())
    };
    assert_eq!(lost_in(start(TaskGroup::scope(members))), ["task panicked: child"]);
    let lost = lost_in(async {
        let failed = TaskGroup::scope(async |group: &TaskGroup<()>| {
            group.spawn(async {
                boom("child").await;
                Ok(())
            });
            Ok(())
        });
        assert_eq!(failed.await.unwrap_err().failures().len(), 1);
    });
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn of_a_blocking_job_whose_handle_is_dropped_before_or_after_it_finishes() {
    let lost = lost_in(async {
        let finished = spawn_blocking(|| fail("after"));
        while !finished.is_finished() {
            yield_now().await;
        }
        drop(finished);
        let (start, has_started) = mpsc::channel::<()>();
        drop(spawn_blocking(move || {
            let _ = has_started.recv();
            fail("before");
        }));
        drop(start);
        spawn_blocking(|| fail("awaited")).await.unwrap_err();
        rest().await;
    });
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost.contains(&"task panicked: after".into()), "{lost:?}");
    assert!(lost.contains(&"task panicked: before".into()), "{lost:?}");
}

#[test]
fn of_jobs_of_any_pool_and_of_its_map() {
    let pool = BlockingPool::new(1);
    let lost = lost_in(async {
        drop(pool.spawn_named("named", || fail("named")));
        pool.spawn(|| ()).await.unwrap();
        let mut results = pool.map(0..2, |i| assert_ne!(i, 1, "second"));
        results.next().await.unwrap().unwrap();
        pool.spawn(|| ()).await.unwrap();
        drop(results);
    });
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost[0].contains("named") && lost[1].contains("second"), "{lost:?}");
    // No loop has spawned these.
    drop(pool.spawn(|| fail("no loop's")));
    pool.shutdown(Duration::from_secs(60)).unwrap();
}

#[test]
fn of_a_job_that_ends_with_the_loop() {
    let lost = lost_in(async {
        drop(spawn_blocking(|| fail("at the end")));
    });
    // It has started, or it was cancelled.
    assert!(lost.is_empty() || lost == ["task panicked: at the end"], "{lost:?}");
}

#[test]
fn of_handles_polled_or_dropped_on_another_thread() {
    let lost = lost_in(async {
        let handle = Handle::current().unwrap();
        drop(handle.spawn(boom("from a handle")));
        let elsewhere = spawn(boom("dropped elsewhere"));
        rest().await;
        thread::spawn(move || drop(elsewhere)).join().unwrap();
        let mut polled = spawn(boom("polled elsewhere"));
        let polled = thread::spawn(move || {
            assert!(polled.join_timeout(Duration::ZERO).is_err());
            polled
        });
        let polled = polled.join().unwrap();
        rest().await;
        assert!(polled.is_finished());
        thread::spawn(move || drop(polled)).join().unwrap();
        rest().await;
    });
    let mut lost = lost;
    lost.sort();
    assert_eq!(
        lost,
        [
            "task panicked: dropped elsewhere",
            "task panicked: from a handle",
            "task panicked: polled elsewhere",
        ]
    );
}

#[test]
fn not_of_a_panic_that_a_joiner_received() {
    let lost = lost_in(async {
        let error = spawn(boom("joined")).await.unwrap_err();
        assert_eq!(error.to_string(), "task panicked: joined");
        let payload = error.try_into_panic().unwrap();
        assert_eq!(*payload.downcast_ref::<String>().unwrap(), "joined");
        drop(spawn(boom("joined")).abort_on_drop().await);
        let mut elsewhere = spawn(boom("joined elsewhere"));
        let thread = thread::spawn(move || {
            drop(elsewhere.join_timeout(Duration::from_secs(60)).unwrap());
        });
        spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        let kept = spawn(boom("kept"));
        rest().await;
        [kept]
    });
    // The handle outlived the future, but not the loop.
    assert_eq!(lost, ["task panicked: kept"]);
}

#[test]
fn not_of_a_loop_without_debug_mode() {
    let reporter = |report: &Report| panic!("{report}");
    let runtime = Builder::new().debug(false).reporter(reporter).build().unwrap();
    runtime
        .block_on(async {
            drop(spawn(boom("task")));
            drop(spawn_blocking(|| fail("job")));
            let mut set = JoinSet::new();
            set.spawn(boom("set"));
            rest().await;
        })
        .unwrap();
}
