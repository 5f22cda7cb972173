//! Aim: blocking work uses a bounded number of threads, fails in isolation, and never prevents a loop from ending.

mod util;

use std::cell::RefCell;
use std::env;
use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    BlockingPool, Builder, JoinHandle, Runtime, Until, as_completed, run, spawn, spawn_blocking,
    wait, yield_now,
};
use polyloop_reactor::conformance::in_forked_child;

use util::{OnDrop, block_on_elsewhere, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

fn runtime_with(threads: usize) -> Runtime {
    Builder::new().max_blocking_threads(threads).build().unwrap()
}

#[test]
fn one_thread_keeps_results_and_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    runtime_with(1)
        .block_on(async {
            let jobs: Vec<JoinHandle<usize>> = (0..100)
                .map(|i| {
                    let order = Arc::clone(&order);
                    spawn_blocking(move || {
                        order.lock().unwrap().push(i);
                        i
                    })
                })
                .collect();
            for (i, job) in jobs.into_iter().enumerate() {
                assert_eq!(job.await.unwrap(), i);
            }
        })
        .unwrap();
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn the_maximum_number_of_threads_is_never_exceeded() {
    const BOUND: usize = 3;
    let (n_now, n_most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime_with(BOUND)
        .block_on(async {
            let jobs: Vec<_> = (0..300)
                .map(|_| {
                    let (n_now, n_most) = (Arc::clone(&n_now), Arc::clone(&n_most));
                    spawn_blocking(move || {
                        n_most
                            .fetch_max(n_now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        n_now.fetch_sub(1, Ordering::SeqCst);
                    })
                })
                .collect();
            for job in jobs {
                job.await.unwrap();
            }
        })
        .unwrap();
    assert!((1..=BOUND).contains(&n_most.load(Ordering::SeqCst)));
}

#[test]
fn as_many_jobs_as_threads_run_concurrently() {
    with_watchdog(LIMIT, || {
        runtime_with(4)
            .block_on(async {
                // Each waits for all others: with fewer threads this would deadlock.
                let barrier = Arc::new(Barrier::new(4));
                let jobs = [(); 4].map(|()| {
                    let barrier = Arc::clone(&barrier);
                    spawn_blocking(move || {
                        barrier.wait();
                    })
                });
                for job in jobs {
                    job.await.unwrap();
                }
            })
            .unwrap();
    });
}

#[test]
fn a_thousand_panics_leave_the_pool_usable() {
    runtime_with(2)
        .block_on(async {
            for i in 0..1_000 {
                let error = spawn_blocking(move || panic!("job {i}")).await.unwrap_err();
                assert_eq!(error.to_string(), format!("task panicked: job {i}"));
            }
            assert_eq!(spawn_blocking(|| 7).await.unwrap(), 7);
        })
        .unwrap();
}

#[test]
fn a_panicking_output_destructor_leaves_the_thread_alive() {
    runtime_with(1)
        .block_on(async {
            drop(spawn_blocking(|| OnDrop(|| panic!("unwanted output"))));
            assert_eq!(spawn_blocking(|| 7).await.unwrap(), 7);
        })
        .unwrap();
}

#[test]
fn an_abort_cancels_queued_jobs_only() {
    runtime_with(1)
        .block_on(async {
            let (go, wait) = mpsc::channel::<()>();
            let running = spawn_blocking(move || {
                wait.recv().unwrap();
                "finished"
            });
            let n_runs = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&n_runs);
            let queued = spawn_blocking(move || count.fetch_add(1, Ordering::SeqCst));
            queued.abort();
            running.abort();
            go.send(()).unwrap();
            assert!(queued.await.unwrap_err().is_cancelled());
            // It may have been aborted before it started; if it started, it finished.
            match running.await {
                Ok(output) => assert_eq!(output, "finished"),
                Err(error) => assert!(error.is_cancelled()),
            }
            assert_eq!(n_runs.load(Ordering::SeqCst), 0);
        })
        .unwrap();
}

#[test]
fn an_aborted_job_finishes_at_once_although_its_queue_is_blocked() {
    let pool = BlockingPool::new(1);
    let held = Held::start(&pool, "held");
    let n_runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_runs);
    let mut queued = pool.spawn(move || count.fetch_add(1, Ordering::SeqCst));
    queued.abort();
    assert!(queued.is_finished());
    assert!(queued.join_timeout(LIMIT).unwrap().unwrap_err().is_cancelled());
    held.end();
    pool.shutdown(LIMIT).unwrap();
    assert_eq!(n_runs.load(Ordering::SeqCst), 0);
}

#[test]
fn the_end_of_the_loop_waits_for_running_jobs() {
    let (started, has_started) = mpsc::channel();
    let finished = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&finished);
    run(async move {
        drop(spawn_blocking(move || {
            started.send(()).unwrap();
            thread::sleep(Duration::from_millis(50));
            count.store(1, Ordering::SeqCst);
        }));
        has_started.recv().unwrap();
    })
    .unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

#[test]
fn the_end_of_the_loop_does_not_wait_indefinitely() {
    let (release, wait) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let grace = Duration::from_millis(30);
    let runtime = Builder::new().max_blocking_threads(1).shutdown_timeout(grace).build().unwrap();
    let (endless, queued) = runtime
        .block_on(async move {
            let endless = spawn_blocking(move || {
                started.send(()).unwrap();
                let _ = wait.recv();
            });
            has_started.recv().unwrap();
            (endless, spawn_blocking(|| unreachable!("it never runs")))
        })
        .unwrap();
    let start = Instant::now();
    drop(runtime);
    let took = start.elapsed();
    assert!(took >= grace && took < grace + Duration::from_secs(2), "{took:?}");
    // Queued jobs are cancelled; the running job continues, and its handle returns the output.
    assert!(block_on_elsewhere(queued).unwrap_err().is_cancelled());
    drop(release);
    block_on_elsewhere(endless).unwrap();
}

#[test]
fn a_job_that_outlives_its_loop_may_drop_its_result() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let (release, wait) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    let runtime = Builder::new().shutdown_timeout(Duration::ZERO).build().unwrap();
    runtime
        .block_on(async move {
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                let _ = wait.recv();
                OnDrop(move || count.store(1, Ordering::SeqCst))
            }));
            has_started.recv().unwrap();
        })
        .unwrap();
    drop(runtime);
    drop(release);
    wait_until(|| dropped.load(Ordering::SeqCst) != 0);
}

#[test]
fn jobs_spawned_by_destructors_at_the_end_resolve() {
    let (handles, from_destructor) = mpsc::channel();
    run(async move {
        drop(spawn(async move {
            let _guard = OnDrop(move || handles.send(spawn_blocking(|| 7)).unwrap());
            std::future::pending::<()>().await;
        }));
        yield_now().await;
    })
    .unwrap();
    let job = from_destructor.recv().unwrap();
    match block_on_elsewhere(job) {
        Ok(output) => assert_eq!(output, 7),
        Err(error) => assert!(error.is_cancelled()),
    }
}

#[test]
fn a_hundred_thousand_jobs_return_their_outputs() {
    with_watchdog(LIMIT, || {
        runtime_with(2)
            .block_on(async {
                for round in 0..1_000_u64 {
                    let jobs: Vec<_> =
                        (0..100_u64).map(|i| spawn_blocking(move || round + i)).collect();
                    for (i, job) in jobs.into_iter().enumerate() {
                        assert_eq!(job.await.unwrap(), round + i as u64);
                    }
                }
            })
            .unwrap();
    });
}

#[test]
fn the_loop_continues_while_jobs_block() {
    run(async {
        let (release, wait) = mpsc::channel::<()>();
        let job = spawn_blocking(move || wait.recv().unwrap());
        for _ in 0..1_000 {
            yield_now().await;
        }
        release.send(()).unwrap();
        job.await.unwrap();
    })
    .unwrap();
}

// Separate pools.

/// A job that runs until it is released.
struct Held {
    job: JoinHandle<()>,
    release: mpsc::Sender<()>,
}

impl Held {
    /// Returns when the job has started.
    #[track_caller]
    fn start(pool: &BlockingPool, name: &'static str) -> Held {
        let (release, hold) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let job = pool.spawn_named(name, move || {
            started.send(()).unwrap();
            // An error means that the test has ended.
            let _ = hold.recv();
        });
        has_started.recv().unwrap();
        Held { job, release }
    }

    fn end(self) {
        drop(self.release);
        block_on_elsewhere(self.job).unwrap();
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "timed out");
        thread::yield_now();
    }
}

#[test]
fn a_pool_serves_plain_threads_without_a_loop() {
    let pool = BlockingPool::new(2);
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let pool = pool.clone();
            thread::spawn(move || {
                let jobs = (0..100).map(|i| pool.spawn(move || thread * 100 + i));
                jobs.map(|mut job| job.join_timeout(LIMIT).unwrap().unwrap()).sum::<u64>()
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(sum, (0..400).sum());
}

#[test]
fn a_plain_thread_can_join_again_after_a_timeout() {
    let pool = BlockingPool::new(1);
    let Held { mut job, release } = Held::start(&pool, "held");
    assert!(!job.is_finished());
    assert!(job.join_timeout(Duration::from_millis(5)).is_err());
    drop(release);
    job.join_timeout(LIMIT).unwrap().unwrap();
    let mut panics = pool.spawn(|| panic!("job"));
    assert_eq!(panics.join_timeout(LIMIT).unwrap().unwrap_err().to_string(), "task panicked: job");
}

#[test]
fn several_loops_share_a_pool_that_outlives_them() {
    let pool = BlockingPool::builder().name("shared").max_threads(1).build();
    let held = Held::start(&pool, "held");
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let runtime = Builder::new().blocking_pool(pool).build().unwrap();
                let name = || thread::current().name().map(String::from);
                runtime.block_on(async { [spawn_blocking(name)] }).unwrap()
            })
        })
        .collect();
    // The loops have ended. Their queued jobs are not lost.
    let jobs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    held.end();
    for job in jobs.into_iter().flatten() {
        assert_eq!(block_on_elsewhere(job).unwrap().as_deref(), Some("shared-1"));
    }
}

#[test]
fn each_pool_has_its_name_and_its_threads() {
    let pools = ["left", "right"].map(|name| BlockingPool::builder().name(name).max_threads(2));
    let pools = pools.map(|pool| pool.build());
    with_watchdog(LIMIT, move || {
        // All four wait for each other, so each ran on a separate thread.
        let barrier = Arc::new(Barrier::new(4));
        let jobs = [0, 1, 0, 1].map(|i| {
            let barrier = Arc::clone(&barrier);
            pools[i].spawn(move || {
                barrier.wait();
                thread::current().name().map(String::from).unwrap()
            })
        });
        let mut names = jobs.map(|job| block_on_elsewhere(job).unwrap());
        names.sort();
        assert_eq!(names, ["left-1", "left-2", "right-1", "right-2"]);
    });
}

#[test]
fn idle_threads_end_and_are_replaced() {
    let pool = BlockingPool::builder().keep_alive(Duration::ZERO).build();
    for _ in 0..3 {
        assert!(block_on_elsewhere(pool.spawn(|| ())).is_ok());
        wait_until(|| pool.threads() == 0);
    }
    let pool = BlockingPool::builder().keep_alive(Duration::MAX).build();
    for _ in 0..3 {
        assert!(block_on_elsewhere(pool.spawn(|| ())).is_ok());
        wait_until(|| !pool.is_busy());
        assert_eq!(pool.threads(), 1);
    }
}

#[test]
fn no_job_is_lost_to_a_thread_that_is_about_to_end() {
    with_watchdog(LIMIT, || {
        for keep_alive in [Duration::ZERO, Duration::from_micros(20)] {
            let pool = BlockingPool::builder().max_threads(2).keep_alive(keep_alive).build();
            for i in 0..5_000 {
                assert_eq!(block_on_elsewhere(pool.spawn(move || i)).unwrap(), i);
            }
        }
    });
}

#[test]
fn a_stack_has_the_requested_size() {
    const N_BYTES: usize = 8 << 20;
    let pool = BlockingPool::builder().stack_size(8 * N_BYTES).build();
    // It would overflow the default stack of two MiB, and abort the process.
    let job = pool.spawn(|| black_box([1_u8; N_BYTES]).iter().map(|&byte| usize::from(byte)).sum());
    let sum: usize = block_on_elsewhere(job).unwrap();
    assert_eq!(sum, N_BYTES);
}

#[test]
fn a_pool_that_cannot_start_a_thread_reports_that_and_drops_the_job() {
    // No address space has a hole of that size, not even a 32-bit one under a 64-bit kernel.
    let pool = BlockingPool::builder().stack_size(usize::MAX / 4 * 3).build();
    let held = Arc::new(());
    let work = Arc::clone(&held);
    pool.try_spawn(move || drop(work)).unwrap_err();
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.spawn(|| ()))).is_err());
    assert!(!pool.is_busy());
    pool.shutdown_now(Duration::MAX).unwrap();
}

#[test]
fn a_name_with_a_nul_byte_is_refused_at_once() {
    assert!(catch_unwind(|| BlockingPool::builder().name("a\0b")).is_err());
}

#[test]
fn wait_and_as_completed_take_jobs() {
    let pool = BlockingPool::new(3);
    run(async {
        let held = ["first", "second"].map(|name| Held::start(&pool, name));
        let panics = pool.spawn(|| panic!("job"));
        let (jobs, releases): (Vec<_>, Vec<_>) =
            held.into_iter().map(|held| (held.job, held.release)).unzip();
        let waited = wait(jobs.into_iter().chain([panics]), Until::FirstFailure, None).await;
        assert_eq!((waited.done[0].0, waited.pending.len()), (2, 2));
        assert!(waited.done[0].1.as_ref().unwrap_err().is_panic());

        let mut done = as_completed(waited.pending.into_iter().map(|(_, job)| job));
        for (number, release) in releases.into_iter().enumerate().rev() {
            drop(release);
            let (position, outcome) = done.join_next_with_number().await.unwrap();
            assert_eq!(position, number);
            outcome.unwrap().unwrap();
        }
        assert!(done.join_next_with_number().await.is_none());
    })
    .unwrap();
}

#[test]
fn running_jobs_are_listed_with_name_line_and_time() {
    let pool = BlockingPool::new(3);
    let line = line!() + 1;
    let held = Held::start(&pool, "held");
    let started = Instant::now();
    wait_until(|| started.elapsed() >= Duration::from_millis(2));
    let later = Held::start(&pool, "later");
    let running = pool.running();
    assert_eq!(
        running.iter().map(|job| job.name().unwrap()).collect::<Vec<_>>(),
        ["held", "later"]
    );
    assert_eq!((running[0].spawned_at().file(), running[0].spawned_at().line()), (file!(), line));
    assert!(running[0].running_for() >= Duration::from_millis(2));
    held.end();
    later.end();
    wait_until(|| pool.running().is_empty());
}

// Map.

#[test]
fn map_keeps_the_order_of_the_items_for_threads_and_for_tasks() {
    let pool = BlockingPool::new(4);
    let slow_at_first = |i: u64| {
        if i.is_multiple_of(8) {
            thread::sleep(Duration::from_millis(1));
        }
        i * i
    };
    let squares: Vec<u64> = (0..200).map(|i| i * i).collect();
    let blocking: Result<Vec<u64>, _> = pool.map(0..200, slow_at_first).into_iter().collect();
    assert_eq!(blocking.unwrap(), squares);
    run(async {
        let mut map = pool.map(0..200, slow_at_first);
        let mut awaited = Vec::new();
        while let Some(square) = map.next().await {
            awaited.push(square.unwrap());
        }
        assert_eq!(awaited, squares);
        assert!(map.next().await.is_none());
    })
    .unwrap();
}

#[test]
fn map_takes_a_bounded_number_of_items_ahead() {
    const AHEAD: usize = 5;
    let pool = BlockingPool::new(2);
    let n_taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_taken);
    let items = (0..).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let map = pool.map(items, |i: usize| i).buffer_size(AHEAD);
    assert_eq!(n_taken.load(Ordering::SeqCst), 0);
    for (i, result) in map.into_iter().take(100).enumerate() {
        assert_eq!(result.unwrap(), i);
        assert_eq!(n_taken.load(Ordering::SeqCst), i + AHEAD);
    }
}

#[test]
fn map_processes_as_many_items_concurrently_as_there_are_threads() {
    with_watchdog(LIMIT, || {
        let pool = BlockingPool::new(4);
        let barrier = Arc::new(Barrier::new(4));
        // With fewer threads this would deadlock.
        let map = pool.map(0..8, move |_| barrier.wait().is_leader());
        assert_eq!(map.into_iter().filter(|leads| *leads.as_ref().unwrap()).count(), 2);
    });
}

#[test]
fn a_panic_is_the_result_of_its_item_and_of_no_other() {
    let pool = BlockingPool::new(2);
    let map = pool.map(0..10, |i| if i == 3 { panic!("item {i}") } else { i });
    for (i, result) in map.into_iter().enumerate() {
        match result {
            Ok(output) => assert_eq!(output, i),
            Err(error) => assert_eq!((i, error.to_string()), (3, "task panicked: item 3".into())),
        }
    }
}

#[test]
fn dropping_a_map_cancels_queued_jobs() {
    let pool = BlockingPool::new(1);
    let n_runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n_runs);
    let (release, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let mut map = pool.map(0..10, move |i| {
        count.fetch_add(1, Ordering::SeqCst);
        if i == 1 {
            let _ = hold.lock().unwrap().recv();
        }
    });
    block_on_elsewhere(map.next()).unwrap().unwrap();
    wait_until(|| n_runs.load(Ordering::SeqCst) == 2);
    drop(map);
    drop(release);
    pool.shutdown(LIMIT).unwrap();
    assert_eq!(n_runs.load(Ordering::SeqCst), 2);
}

#[test]
fn a_map_over_a_closed_pool_returns_an_error() {
    let pool = BlockingPool::new(1);
    let mut map = pool.map(0.., |i| i).buffer_size(3);
    assert_eq!(block_on_elsewhere(map.next()).unwrap().unwrap(), 0);
    pool.shutdown_now(LIMIT).unwrap();
    let left: Vec<_> = map.into_iter().collect();
    assert!(left.last().unwrap().as_ref().unwrap_err().is_cancelled());
    assert!(left.len() <= 4, "{left:?}");
}

#[test]
fn a_map_during_a_shutdown_never_ends_without_an_error() {
    with_watchdog(LIMIT, || {
        for _ in 0..300 {
            let pool = BlockingPool::new(1);
            let map = pool.map(0.., |i| i).buffer_size(1);
            let ending = thread::spawn(move || pool.shutdown_now(LIMIT).unwrap());
            let (order, last) = map.into_iter().fold((0, None), |(n, _), result| match result {
                Ok(i) => {
                    assert_eq!(i, n);
                    (n + 1, None)
                }
                Err(error) => (n, Some(error)),
            });
            assert!(last.is_some_and(|error| error.is_cancelled()), "ended after {order}");
            ending.join().unwrap();
        }
    });
}

#[test]
fn iterating_over_a_map_inside_a_loop_is_refused() {
    let pool = BlockingPool::new(1);
    let task = async move { pool.map(0..3, |i| i).into_iter().next() };
    let error = run(async { spawn(task).await.unwrap_err() }).unwrap();
    assert!(error.to_string().contains("await `next` instead"), "{error}");
}

// Shutdown of a pool.

#[test]
fn shutdown_now_cancels_queued_jobs_and_waits_for_running_ones() {
    let pool = BlockingPool::new(1);
    let held = Held::start(&pool, "held");
    let queued = pool.spawn(|| ());
    let releasing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        held.end();
    });
    pool.shutdown_now(LIMIT).unwrap();
    assert_eq!(pool.threads(), 0);
    assert!(block_on_elsewhere(queued).unwrap_err().is_cancelled());
    assert!(block_on_elsewhere(pool.spawn(|| ())).unwrap_err().is_cancelled());
    releasing.join().unwrap();
}

#[test]
fn shutdown_runs_queued_jobs_and_refuses_new_ones() {
    let pool = BlockingPool::new(2);
    let jobs: Vec<_> = (0..100).map(|i| pool.spawn(move || i)).collect();
    pool.shutdown(LIMIT).unwrap();
    assert_eq!((pool.threads(), pool.is_busy()), (0, false));
    for (i, job) in jobs.into_iter().enumerate() {
        assert_eq!(block_on_elsewhere(job).unwrap(), i);
    }
    assert!(block_on_elsewhere(pool.spawn(|| ())).unwrap_err().is_cancelled());
}

#[test]
fn close_returns_at_once_and_lets_the_queue_run() {
    let pool = BlockingPool::new(1);
    let held = Held::start(&pool, "held");
    let queued = pool.spawn(|| 7);
    pool.close();
    assert!(pool.is_closed());
    assert!(block_on_elsewhere(pool.spawn(|| ())).unwrap_err().is_cancelled());
    held.end();
    assert_eq!(block_on_elsewhere(queued).unwrap(), 7);
    wait_until(|| pool.threads() == 0);
}

#[test]
fn unfinished_jobs_are_named_after_a_bounded_wait() {
    let limit = Duration::from_millis(20);
    for graceful in [false, true] {
        let pool = BlockingPool::builder().name("stuck").max_threads(2).build();
        let line = line!() + 1;
        let held = ["one", "two"].map(|name| Held::start(&pool, name));
        let queued = pool.spawn(|| ());
        let start = Instant::now();
        let unfinished = if graceful { pool.shutdown(limit) } else { pool.shutdown_now(limit) };
        let took = start.elapsed();
        assert!(took >= limit && took < LIMIT, "{took:?}");
        let unfinished = unfinished.unwrap_err();
        assert_eq!(unfinished.cancelled(), 1);
        assert!(block_on_elsewhere(queued).unwrap_err().is_cancelled());
        let named: Vec<_> = unfinished.running().iter().map(|job| job.name().unwrap()).collect();
        assert_eq!(named, ["one", "two"]);
        assert!(unfinished.running()[1].running_for() >= limit);
        let text = unfinished.to_string();
        for part in ["\"stuck\"", "\"one\"", "\"two\"", &format!("{}:{line}:", file!())] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        assert_eq!(io::Error::from(unfinished).kind(), io::ErrorKind::TimedOut);
        // They have been reported, and are not waited for again.
        let start = Instant::now();
        drop(pool);
        assert!(start.elapsed() < Duration::from_secs(1));
        held.into_iter().for_each(Held::end);
    }
}

#[test]
fn a_shutdown_with_a_zero_timeout_reports_cancelled_jobs() {
    let pool = BlockingPool::new(1);
    // On a busy machine the thread may have started some of them already.
    let jobs: Vec<_> = (0..1_000).map(|_| pool.spawn(thread::yield_now)).collect();
    let n_cancelled = pool.shutdown(Duration::ZERO).map_or_else(|error| error.cancelled(), |()| 0);
    let outcomes = jobs.into_iter().map(block_on_elsewhere);
    assert_eq!(outcomes.filter(Result::is_err).count(), n_cancelled);
}

#[test]
fn a_panicking_destructor_of_a_cancelled_job_does_not_stop_a_shutdown() {
    let pool = BlockingPool::new(1);
    let held = Held::start(&pool, "held");
    let bombs = [(); 2].map(|()| {
        let bomb = OnDrop(|| panic!("bomb"));
        pool.spawn(move || drop(bomb))
    });
    let innocent = pool.spawn(|| ());
    pool.shutdown_now(Duration::ZERO).unwrap_err();
    for job in bombs.into_iter().chain([innocent]) {
        assert!(block_on_elsewhere(job).unwrap_err().is_cancelled());
    }
    held.end();
    // A job that is spawned too late does not affect its spawner either.
    let bomb = OnDrop(|| panic!("bomb"));
    let late = pool.spawn(move || drop(bomb));
    assert!(block_on_elsewhere(late).unwrap_err().is_cancelled());
}

#[test]
fn a_job_may_spawn_into_its_own_pool() {
    fn chain(pool: BlockingPool, n_left: usize, done: mpsc::Sender<()>) {
        match n_left {
            0 => done.send(()).unwrap(),
            _ => drop(pool.clone().spawn(move || chain(pool, n_left - 1, done))),
        }
    }
    with_watchdog(LIMIT, || {
        let pool = BlockingPool::new(1);
        let (done, is_done) = mpsc::channel();
        chain(pool, 1_000, done);
        is_done.recv().unwrap();
    });
}

#[test]
fn a_job_that_shuts_down_its_pool_waits_only_for_the_others() {
    with_watchdog(LIMIT, || {
        let pool = BlockingPool::new(2);
        let other = Held::start(&pool, "other");
        let theirs = pool.clone();
        let job = pool.spawn_named("own", move || {
            let unfinished = theirs.shutdown_now(Duration::from_millis(10)).unwrap_err();
            let names = unfinished.running().iter().map(|job| job.name().unwrap().to_owned());
            (names.collect::<Vec<_>>(), theirs)
        });
        let (names, theirs) = block_on_elsewhere(job).unwrap();
        assert_eq!(names, ["other"]);
        other.end();
        theirs.shutdown(Duration::MAX).unwrap();
    });
}

#[test]
fn two_jobs_that_shut_down_their_pool_do_not_wait_for_each_other() {
    with_watchdog(LIMIT, || {
        let pool = BlockingPool::new(2);
        let barrier = Arc::new(Barrier::new(2));
        let jobs = [(); 2].map(|()| {
            let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
            pool.clone().spawn(move || {
                barrier.wait();
                pool.shutdown_now(Duration::MAX).unwrap();
            })
        });
        jobs.into_iter().for_each(|job| block_on_elsewhere(job).unwrap());
    });
}

#[test]
fn a_job_may_hold_the_last_handle() {
    with_watchdog(LIMIT, || {
        let pool = BlockingPool::builder().shutdown_timeout(Duration::MAX).build();
        let (release, hold) = mpsc::channel::<()>();
        let theirs = pool.clone();
        let job = pool.spawn(move || {
            hold.recv().unwrap();
            drop(theirs);
        });
        drop(pool);
        release.send(()).unwrap();
        block_on_elsewhere(job).unwrap();
    });
}

#[test]
fn a_pool_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static POOL: RefCell<Option<BlockingPool>> = const { RefCell::new(None) };
    }
    with_watchdog(LIMIT, || {
        let job = thread::spawn(|| {
            let pool = BlockingPool::new(1);
            let held = Held::start(&pool, "held");
            let queued = pool.spawn(|| ());
            POOL.set(Some(pool));
            (held, queued)
        });
        let (held, queued) = job.join().unwrap();
        assert!(block_on_elsewhere(queued).unwrap_err().is_cancelled());
        held.end();
    });
}

#[test]
fn a_forked_child_gets_an_error_and_does_not_wait() {
    const GRACE: Duration = Duration::from_secs(5);
    let pool = BlockingPool::builder().keep_alive(LIMIT).shutdown_timeout(GRACE).build();
    block_on_elsewhere(pool.spawn(|| ())).unwrap();
    assert_eq!(pool.threads(), 1);
    let code = in_forked_child(move || {
        let error = pool.try_spawn(|| ()).unwrap_err();
        assert!(error.to_string().contains("forked child"), "{error}");
        assert_eq!((pool.threads(), pool.is_closed()), (0, true));
        let start = Instant::now();
        pool.shutdown_now(GRACE).unwrap();
        drop(pool);
        assert!(start.elapsed() < GRACE);
        // A new pool works.
        block_on_elsewhere(BlockingPool::new(1).spawn(|| 7)).unwrap() == 7
    });
    assert_eq!(code.unwrap(), 0);
}

/// Set in the process that runs one test alone.
const ALONE: &str = "POLYLOOP_TEST_ALONE";

/// Runs one test of this file in a separate process, and returns its standard error.
fn stderr_of(test: &str) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn dropping_the_last_handle_names_unfinished_jobs_on_stderr() {
    if env::var_os(ALONE).is_none() {
        let said = stderr_of("dropping_the_last_handle_names_unfinished_jobs_on_stderr");
        let named: Vec<&str> = said.lines().filter(|line| line.starts_with("polyloop: ")).collect();
        assert_eq!(named.len(), 2, "{said}");
        assert!(named[0].contains("\"mine\"") && named[0].contains("\"endless\""), "{said}");
        assert!(named[0].contains(file!()), "{said}");
        assert!(named[1].contains("polyloop-blocking") && named[1].contains(file!()), "{said}");
        return;
    }
    let grace = Duration::from_millis(10);
    let pool = BlockingPool::builder().name("mine").shutdown_timeout(grace).build();
    let held = Held::start(&pool, "endless");
    drop(pool);
    held.end();
    // The same for the loop's pool.
    let (started, has_started) = mpsc::channel();
    let runtime = Builder::new().shutdown_timeout(grace).build().unwrap();
    runtime
        .block_on(async move {
            drop(spawn_blocking(move || {
                started.send(()).unwrap();
                thread::park_timeout(LIMIT);
            }));
            has_started.recv().unwrap();
        })
        .unwrap();
    drop(runtime);
    // Without waiting for the unfinished job.
    process::exit(0);
}
