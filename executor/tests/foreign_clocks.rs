//! A delay that is requested on one clock and awaited on another has the requested length.

mod util;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Handle, Runtime, channel, interval, now, run, sleep, sleep_until, spawn_blocking, timeout,
};

use util::{run_virtual, virtual_runtime, with_watchdog};

const DELAY: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `f` with this loop's handle on a plain thread, while the loop waits.
async fn on_a_thread<R: Send + 'static>(f: impl FnOnce(Handle) -> R + Send + 'static) -> R {
    let handle = Handle::current().unwrap();
    spawn_blocking(move || thread::spawn(move || f(handle)).join().unwrap()).await.unwrap()
}

#[test]
fn a_call_from_a_thread_runs_after_its_delay_in_virtual_time() {
    run_virtual(async {
        // The loop's clock is ahead of the thread's.
        sleep(DAY).await;
        let start = now();
        let (sender, mut receiver) = channel::unbounded();
        on_a_thread(move |handle| {
            handle.call_later(DELAY, move || sender.send(now()).unwrap());
        })
        .await;
        assert_eq!(receiver.recv().await.unwrap() - start, DELAY);
    });
}

#[test]
fn a_call_from_a_virtual_clock_runs_after_its_delay_on_a_real_one() {
    const REAL: Duration = Duration::from_millis(20);
    with_watchdog(LIMIT, || {
        let real = Runtime::new().unwrap();
        let handle = real.handle();
        let start = Instant::now();
        let (sender, mut receiver) = channel::unbounded();
        thread::spawn(move || {
            run_virtual(async move {
                sleep(DAY).await;
                handle.call_later(REAL, move || sender.send(()).unwrap());
            });
        });
        real.block_on(receiver.recv()).unwrap().unwrap();
        assert!(start.elapsed() >= REAL);
    });
}

#[test]
fn a_sleep_and_a_timeout_from_a_thread_last_their_duration_in_virtual_time() {
    run_virtual(async {
        sleep(DAY).await;
        let start = now();
        let task = on_a_thread(|handle| handle.spawn(sleep(DELAY))).await;
        task.await.unwrap();
        assert_eq!(now() - start, DELAY);
        let late = on_a_thread(|handle| handle.spawn(timeout(DELAY, sleep(DAY)))).await;
        assert!(late.await.unwrap().is_err());
        assert_eq!(now() - start, 2 * DELAY);
        let in_time = on_a_thread(|handle| handle.spawn(timeout(DAY, sleep(DELAY)))).await;
        assert!(in_time.await.unwrap().is_ok());
        assert_eq!(now() - start, 3 * DELAY);
    });
}

#[test]
fn an_interval_from_a_thread_ticks_at_once_and_then_in_virtual_time() {
    run_virtual(async {
        sleep(DAY).await;
        let start = now();
        let ticks = on_a_thread(|handle| {
            let mut ticks = interval(DELAY);
            handle
                .spawn(async move { [ticks.tick().await, ticks.tick().await, ticks.tick().await] })
        });
        assert_eq!(ticks.await.await.unwrap(), [start, start + DELAY, start + 2 * DELAY]);
        assert_eq!(now() - start, 2 * DELAY);
    });
}

#[test]
fn a_sleep_created_before_its_loop_lasts_its_duration_there() {
    let (nap, zero) = (sleep(DELAY), sleep(Duration::ZERO));
    let runtime = virtual_runtime();
    runtime.block_on(sleep(DAY)).unwrap();
    runtime
        .block_on(async {
            let start = now();
            nap.await;
            assert_eq!(now() - start, DELAY);
            zero.await;
            assert_eq!(now() - start, DELAY);
        })
        .unwrap();
}

#[test]
fn a_sleep_counts_from_its_creation_if_the_clock_is_the_same() {
    run_virtual(async {
        let start = now();
        let nap = sleep(DELAY);
        sleep(DELAY / 2).await;
        nap.await;
        assert_eq!(now() - start, DELAY);
    });
    // All loops without virtual time share one clock.
    const REAL: Duration = Duration::from_millis(30);
    let nap = sleep(REAL);
    let start = Instant::now();
    thread::sleep(REAL);
    run(async {
        let mut nap = pin!(nap);
        let was_called = Rc::new(Cell::new(0));
        poll_fn(|cx| {
            was_called.set(was_called.get() + 1);
            if nap.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        // It has elapsed at the loop's first check.
        assert_eq!(was_called.get(), 2);
    })
    .unwrap();
    assert!(start.elapsed() >= REAL);
}

#[test]
fn an_instant_from_any_thread_refers_to_the_clock_of_the_loop() {
    run_virtual(async {
        sleep(DAY).await;
        let at = now() + DELAY;
        let (sender, mut receiver) = channel::unbounded();
        let other = sender.clone();
        on_a_thread(move |handle| {
            handle.call_at(at, move || sender.send(now()).unwrap());
            handle.spawn(async move {
                sleep_until(at).await;
                other.send(now()).unwrap();
            })
        })
        .await;
        assert_eq!(receiver.recv().await, Some(at));
        assert_eq!(receiver.recv().await, Some(at));
    });
}
