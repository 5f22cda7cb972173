//! Benchmarks of tasks, channels and runtimes. `polyloop-compare` has the same rows for the peers.

use std::future::ready;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use polyloop::channel;
use polyloop::{Runtime, spawn, yield_now};

fn tasks(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("executor");
    group.bench_function("spawn and await one task", |b| {
        b.iter_custom(|n| {
            time(&runtime, async {
                for _ in 0..n {
                    spawn(async {}).await.unwrap();
                }
            })
        });
    });
    group.bench_function("spawn 10,000 and join all", |b| {
        b.iter_custom(|n| {
            time(&runtime, async {
                let mut tasks = Vec::with_capacity(10_000);
                for _ in 0..n {
                    tasks.extend((0..10_000).map(|_| spawn(async {})));
                    for task in tasks.drain(..) {
                        task.await.unwrap();
                    }
                }
            })
        });
    });
    for n_tasks in [1, 1_000] {
        group.bench_function(format!("{n_tasks} task(s) yield once each"), |b| {
            b.iter_custom(|n| {
                time(&runtime, async {
                    let tasks: Vec<_> = (0..n_tasks)
                        .map(|_| {
                            spawn(async move {
                                for _ in 0..n {
                                    yield_now().await;
                                }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                })
            });
        });
    }
    group.bench_function("round trip, loop-local channel", |b| {
        b.iter_custom(|n| {
            time(&runtime, async {
                let (there, mut far) = channel::local::unbounded();
                let (back, mut near) = channel::local::unbounded();
                let echo = spawn(async move {
                    while let Some(i) = far.recv().await {
                        back.send(i).unwrap();
                    }
                });
                for i in 0..n {
                    there.send(i).unwrap();
                    near.recv().await;
                }
                drop(there);
                echo.await.unwrap();
            })
        });
    });
    group.bench_function("round trip, Send channel", |b| {
        b.iter_custom(|n| {
            time(&runtime, async {
                let (there, mut far) = channel::unbounded();
                let (back, mut near) = channel::unbounded();
                let echo = spawn(async move {
                    while let Some(i) = far.recv().await {
                        back.send(i).unwrap();
                    }
                });
                for i in 0..n {
                    there.send(i).unwrap();
                    near.recv().await;
                }
                drop(there);
                echo.await.unwrap();
            })
        });
    });
    group.bench_function("block_on a ready future", |b| {
        b.iter(|| runtime.block_on(ready(black_box(7))).unwrap());
    });
    group.bench_function("make, run and drop a runtime", |b| {
        b.iter(|| Runtime::new().unwrap().block_on(ready(7)).unwrap());
    });
}

fn time(runtime: &Runtime, work: impl Future<Output = ()>) -> std::time::Duration {
    let start = std::time::Instant::now();
    runtime.block_on(work).unwrap();
    start.elapsed()
}

criterion_group!(benches, tasks);
criterion_main!(benches);
