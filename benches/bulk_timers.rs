//! What a million timers do to one that is short: `cargo bench -p polyloop-benches --bench bulk_timers`.
//!
//! A million timers are armed, reset and dropped, ten at a time with a yield between, in one task,
//! while another sleeps for a millisecond again and again. Printed are the lateness of those sleeps and
//! the longest single operations, which a busy machine lengthens: take the best of a few runs.

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
/// The operations in one poll. The loop looks at its timers after 128 polls, here every 150 µs.
const BATCH: usize = 10;
const NAP: Duration = Duration::from_millis(1);

/// Durations, sorted and looked at.
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

/// Polls a sleep as the task that runs would, with a waker that costs nothing.
fn arm(sleep: &mut Sleep) {
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(pin!(sleep).poll(&mut context), Poll::Pending);
}

/// Does something with each item, a batch at a time, and measures each.
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

/// Sleeps for a millisecond again and again until `stop`, and returns how late each sleep was.
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
