//! Aim: virtual time stands still while the program's blocking work runs.

mod util;

use std::future::pending;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    BlockingPool, Handle, NextTurn, hold_time, now, sleep, sleep_until, spawn, spawn_blocking,
    timeout,
};

use util::{run_virtual, virtual_runtime};

const WORK: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_timeout_of_an_hour_around_50_ms_of_blocking_work_does_not_elapse() {
    run_virtual(async {
        let start = now();
        let work = spawn_blocking(|| {
            thread::sleep(WORK);
            7
        });
        assert_eq!(timeout(HOUR, work).await.expect("virtual time has advanced").unwrap(), 7);
        assert_eq!(now(), start);
        sleep(HOUR).await;
        assert_eq!(now() - start, HOUR);
    });
}

#[test]
fn jobs_of_any_pool_hold_time_in_the_loop_that_spawned_them() {
    let pool = BlockingPool::new(1);
    run_virtual(async {
        let start = now();
        let jobs: Vec<_> =
            (0..4).map(|i| pool.spawn(move || (thread::sleep(WORK / 4), i).1)).collect();
        for (i, job) in jobs.into_iter().enumerate() {
            assert_eq!(timeout(HOUR, job).await.expect("virtual time has advanced").unwrap(), i);
        }
        let mut results = pool.map(0..4, |i| (thread::sleep(WORK / 4), i).1);
        while let Some(result) =
            timeout(HOUR, results.next()).await.expect("virtual time has advanced")
        {
            result.unwrap();
        }
        assert_eq!(now(), start);
    });
}

#[test]
fn timers_of_other_tasks_also_wait_and_then_fire_in_order() {
    run_virtual(async {
        let start = now();
        let other = spawn(async move {
            sleep(HOUR).await;
            now() - start
        });
        let real = Instant::now();
        spawn_blocking(|| thread::sleep(WORK)).await.unwrap();
        assert!(real.elapsed() >= WORK && !other.is_finished());
        assert_eq!(other.await.unwrap(), HOUR);
    });
}

#[test]
fn a_timer_that_is_due_fires_while_time_is_held() {
    const FAR: Duration = Duration::from_secs(10);
    run_virtual(async {
        let start = now();
        for turn in 0..3 {
            let (sender, receiver) = mpsc::channel();
            // The message that the job waits for is sent only after the timer.
            let job = spawn_blocking(move || receiver.recv_timeout(FAR));
            match turn {
                0 => sleep(Duration::ZERO).await,
                1 => sleep_until(start).await,
                _ => assert!(timeout(Duration::ZERO, pending::<()>()).await.is_err()),
            }
            sender.send(turn).unwrap();
            assert_eq!(job.await.unwrap(), Ok(turn), "the timer waited for the job");
        }
        assert_eq!(now(), start);
    });
}

#[test]
fn a_turn_is_due_if_a_timer_is_while_time_is_held() {
    let runtime = virtual_runtime();
    let (hold, mut nap) = runtime.enter(|| (hold_time(), Box::pin(sleep(Duration::ZERO))));
    let task = runtime.spawn(async move { nap.as_mut().await });
    runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
    let is_over = task.is_finished();
    assert!(is_over || runtime.next_turn().is_due(), "the host would wait until the hold ends");
    drop(hold);
}

#[test]
fn a_job_whose_handle_was_dropped_holds_time_until_it_ends() {
    run_virtual(async {
        let start = Instant::now();
        drop(spawn_blocking(|| thread::sleep(WORK)));
        sleep(HOUR).await;
        assert!(start.elapsed() >= WORK);
    });
}

#[test]
fn time_passes_again_after_a_job_panics_or_is_aborted() {
    let pool = BlockingPool::new(1);
    run_virtual(async {
        let start = now();
        let broken = pool.spawn(|| panic!("on purpose"));
        let (end, wait) = mpsc::channel::<()>();
        let first = pool.spawn(move || wait.recv().is_err());
        let queued = pool.spawn(|| unreachable!("it was aborted"));
        queued.abort();
        assert!(queued.await.unwrap_err().is_cancelled());
        drop(end);
        assert!(first.await.unwrap());
        assert!(broken.await.unwrap_err().is_panic());
        assert_eq!(now(), start);
        sleep(HOUR).await;
    });
}

#[test]
fn messages_of_blocking_work_are_received_before_time_passes() {
    run_virtual(async {
        let start = now();
        let (sender, mut receiver) = polyloop_executor::channel::unbounded();
        let handle = Handle::current().unwrap();
        let work = spawn_blocking(move || {
            for i in 0..5 {
                thread::sleep(WORK / 5);
                let sender = sender.clone();
                handle.call_soon(move || sender.send(i).unwrap());
            }
        });
        for i in 0..5 {
            assert_eq!(timeout(HOUR, receiver.recv()).await, Ok(Some(i)));
        }
        work.await.unwrap();
        assert_eq!(now(), start);
    });
}

#[test]
fn a_turn_for_a_host_waits_in_real_time_while_work_runs() {
    let runtime = virtual_runtime();
    let (end, wait) = mpsc::channel::<()>();
    let task = runtime.spawn(async move {
        let start = now();
        let work = spawn_blocking(move || wait.recv().is_err());
        assert!(timeout(HOUR, work).await.expect("virtual time has advanced").unwrap());
        now() - start
    });
    runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
    let start = Instant::now();
    runtime.turn(Some(WORK), Duration::MAX).unwrap();
    assert!(start.elapsed() >= WORK);
    assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
    drop(end);
    while !runtime.enter(|| task.is_finished()) {
        runtime.turn(None, Duration::MAX).unwrap();
    }
    assert_eq!(runtime.block_on(task).unwrap().unwrap(), Duration::ZERO);
}

#[test]
fn work_spawned_by_a_plain_thread_holds_the_time_of_no_loop() {
    let pool = BlockingPool::new(1);
    let (end, wait) = mpsc::channel::<()>();
    let job = pool.spawn(move || wait.recv().is_err());
    run_virtual(async {
        sleep(HOUR).await;
        drop(end);
        assert!(job.await.unwrap());
    });
}
