//! The effect of a million timers on a short sleep: `cargo bench -p polyloop-benches --bench bulk_timers`.
//!
//! One task arms, resets and drops a million timers, ten at a time with a yield in between, while another
//! repeatedly sleeps for a millisecond. The output has the lateness of those sleeps and the longest single
//! operations. A busy machine lengthens them: take the best of a few runs.

#[macro_use]
mod print;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use polyloop::time::{Sleep, now};
use polyloop::{Runtime, sleep, spawn, yield_now};

const N_TIMERS: usize = 1_000_000;
/// The operations in one poll. The loop checks its timers after 128 polls, here every 150 µs.
const BATCH: usize = 10;
const NAP: Duration = Duration::from_millis(1);

/// A set of durations.
struct Samples(Vec<Duration>);

impl Samples {
    fn print(mut self, what: &str) {
        self.0.sort_unstable();
        let at = |part: f64| self.0[((self.0.len() - 1) as f64 * part) as usize];
        println!(
            "{what:<42} {:>9} samples  p50 {:>10.1?}  p99 {:>10.1?}  p99.9 {:>10.1?}  max {:>10.1?}",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
    }
}

/// Polls a sleep with a no-op waker.
fn arm(sleep: &mut Sleep) {
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(pin!(sleep).poll(&mut context), Poll::Pending);
}

/// Calls `act` with each item, in batches, and measures each call.
async fn each<T>(items: impl IntoIterator<Item = T>, mut act: impl FnMut(T)) -> Samples {
    let mut samples = Vec::with_capacity(N_TIMERS);
    for (i, item) in items.into_iter().enumerate() {
        let start = Instant::now();
        act(item);
        samples.push(start.elapsed());
        if i % BATCH == BATCH - 1 {
            yield_now().await;
        }
    }
    Samples(samples)
}

/// Repeatedly sleeps for a millisecond until `stop`, and returns the lateness of each sleep.
async fn nap_until(stop: Rc<Cell<bool>>) -> Samples {
    let mut late = Vec::new();
    while !stop.get() {
        let start = Instant::now();
        sleep(NAP).await;
        late.push(start.elapsed() - NAP);
    }
    Samples(late)
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let work = async {
        let mut random = fastrand::Rng::with_seed(7);
        let mut after = move || Duration::from_micros(random.u64(100_000_000..1_000_000_000));
        let mut naps: Vec<Sleep> = (0..N_TIMERS).map(|_| sleep(after())).collect();
        for what in ["arm", "reset", "drop"] {
            let stop = Rc::new(Cell::new(false));
            let late = spawn(nap_until(Rc::clone(&stop)));
            let took = match what {
                "arm" => each(&mut naps, arm).await,
                "reset" => each(&mut naps, |nap| nap.reset(now() + Duration::from_secs(500))).await,
                _ => each(naps.drain(..), drop).await,
            };
            stop.set(true);
            let late = late.await.unwrap();
            took.print(&format!("{what} one of a million"));
            late.print(&format!("sleep(1 ms) meanwhile, late by ({what})"));
        }
    };
    runtime.block_on(work).unwrap();
}
