//! Benchmarks of timers. `polyloop-compare` has the same rows for the peers.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use polyloop::{Runtime, sleep, spawn};

async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    poll_fn(|cx| {
        let _ = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// Durations of timeouts: long enough never to fire in a bench, and all different.
fn durations() -> impl FnMut() -> Duration {
    let mut random = fastrand::Rng::with_seed(7);
    move || Duration::from_micros(random.u64(100_000_000..1_000_000_000))
}

fn timers(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("timers");
    for n_others in [0, 10_000, 1_000_000] {
        let mut duration = durations();
        let others = runtime.block_on(async {
            let mut others = Vec::new();
            for _ in 0..n_others {
                let mut other = Box::pin(sleep(duration()));
                poll_once(other.as_mut()).await;
                others.push(other);
            }
            others
        });
        let others = others.unwrap();
        group.bench_function(format!("arm, poll and drop beside {n_others} others"), |b| {
            b.iter_custom(|n| {
                let start = Instant::now();
                let work = async {
                    for _ in 0..n {
                        poll_once(pin!(sleep(duration()))).await;
                    }
                };
                runtime.block_on(work).unwrap();
                start.elapsed()
            });
        });
        drop(others);
    }
    group.bench_function("100,000 sleeps of 1 to 20 ms, a task each", |b| {
        b.iter(|| {
            let mut random = fastrand::Rng::with_seed(7);
            let work = async {
                let tasks: Vec<_> = (0..100_000)
                    .map(|_| spawn(sleep(Duration::from_micros(random.u64(1_000..20_000)))))
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            };
            runtime.block_on(work).unwrap();
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = timers
}
criterion_main!(benches);
