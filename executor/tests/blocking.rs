//! Aim: blocking work is bounded in threads, ends alone, and never keeps a loop from ending.

mod util;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{Builder, JoinHandle, Runtime, run, spawn, spawn_blocking, yield_now};

use util::{OnDrop, block_on_elsewhere, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

fn runtime_with(threads: usize) -> Runtime {
    Builder::new().blocking_threads(threads).build().unwrap()
}

#[test]
fn results_and_order_survive_a_single_thread() {
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
fn never_more_threads_than_the_bound_run_at_once() {
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
fn as_many_jobs_as_threads_run_side_by_side() {
    with_watchdog(LIMIT, || {
        runtime_with(4)
            .block_on(async {
                // Each waits for all the others: one fewer thread would be a deadlock.
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
fn a_thousand_panics_leave_the_pool_whole() {
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
fn an_abort_reaches_work_that_has_not_begun_and_no_other() {
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
            // It may have been aborted before it began, but if it began it finished.
            match running.await {
                Ok(output) => assert_eq!(output, "finished"),
                Err(error) => assert!(error.is_cancelled()),
            }
            assert_eq!(n_runs.load(Ordering::SeqCst), 0);
        })
        .unwrap();
}

#[test]
fn the_end_of_the_loop_waits_for_work_that_has_begun() {
    let (began, has_begun) = mpsc::channel();
    let finished = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&finished);
    run(async move {
        drop(spawn_blocking(move || {
            began.send(()).unwrap();
            thread::sleep(Duration::from_millis(50));
            count.store(1, Ordering::SeqCst);
        }));
        has_begun.recv().unwrap();
    })
    .unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

#[test]
fn the_end_of_the_loop_does_not_wait_for_ever() {
    let (release, wait) = mpsc::channel::<()>();
    let (began, has_begun) = mpsc::channel();
    let grace = Duration::from_millis(30);
    let runtime = Builder::new().blocking_threads(1).shutdown_grace(grace).build().unwrap();
    let (endless, queued) = runtime
        .block_on(async move {
            let endless = spawn_blocking(move || {
                began.send(()).unwrap();
                let _ = wait.recv();
            });
            has_begun.recv().unwrap();
            (endless, spawn_blocking(|| unreachable!("it never has its turn")))
        })
        .unwrap();
    let start = Instant::now();
    drop(runtime);
    let took = start.elapsed();
    assert!(took >= grace && took < grace + Duration::from_secs(2), "{took:?}");
    // What was queued is cancelled, what runs goes on and tells whoever still listens.
    assert!(block_on_elsewhere(queued).unwrap_err().is_cancelled());
    drop(release);
    block_on_elsewhere(endless).unwrap();
}

#[test]
fn a_job_that_outlives_its_loop_may_drop_its_result() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let (release, wait) = mpsc::channel::<()>();
    let (began, has_begun) = mpsc::channel();
    let runtime = Builder::new().shutdown_grace(Duration::ZERO).build().unwrap();
    runtime
        .block_on(async move {
            drop(spawn_blocking(move || {
                began.send(()).unwrap();
                let _ = wait.recv();
                OnDrop(move || count.store(1, Ordering::SeqCst))
            }));
            has_begun.recv().unwrap();
        })
        .unwrap();
    drop(runtime);
    drop(release);
    with_watchdog(LIMIT, || {
        while dropped.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn blocking_work_spawned_by_destructors_at_the_end_resolves() {
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
fn a_hundred_thousand_jobs_are_handed_over() {
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
fn the_loop_goes_on_while_work_blocks() {
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
