//! Criterion benchmarks of the selectors.
//!
//! ```text
//! taskset -c 1 cargo bench --bench backends            everything
//! taskset -c 1 cargo bench --bench backends -- epoll   one mechanism
//! ```
//!
//! Each figure has one of a bare loop over the same mechanism (`bare epoll`) beside it. They are measured one
//! after the other, so on a busy machine their ratio means little. The published ratios come from
//! `polyloop-yardstick`, which interleaves the same loops and operations; see `docs/backends.md`.

use std::hint::black_box;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, measurement::WallTime};
use polyloop::Backend;
use polyloop_yardstick::classic::{
    Contender, MAX_SELECT_PAIRS, Pairs, Selected, Took, bare_contender,
};
use polyloop_yardstick::limits::raise_open_files;

/// The numbers of pairs, each with two descriptors.
const N_PAIRS: [usize; 3] = [100, 1_000, 8_000];

/// The numbers of active pairs.
const N_ACTIVE: [usize; 2] = [1, 100];

fn main() -> io::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    // Some more for the program, and for the low numbers that are reserved for select.
    let n_files = raise_open_files(20_000)? as usize;
    let can_open = |n_pairs: &usize| 2 * n_pairs + 1_200 <= n_files;
    for n_pairs in N_PAIRS.into_iter().filter(can_open) {
        for n_active in N_ACTIVE {
            let group = criterion.benchmark_group(format!("dispatch, {n_active} active"));
            measure(group, n_pairs, |side, pairs, n_times| {
                let n_events = n_times.max(n_active as u64);
                let took = side.dispatch(pairs, n_active, n_events)?;
                // Correct for the events of the other active pairs.
                let share = n_times as f64 / n_events as f64;
                Ok(Took { time: took.time.mul_f64(share), ..took })
            })?;
        }
        let group = criterion.benchmark_group("select without events");
        measure(group, n_pairs, |side, _, n_times| side.poll(n_times))?;
    }
    let (stream, _other_end) = UnixStream::pair()?;
    let group = criterion.benchmark_group("register and unregister");
    measure(group, 100, |side, _, n_times| side.register(&stream, n_times))?;
    let group = criterion.benchmark_group("modify");
    measure(group, 100, |side, _, n_times| side.modify(&stream, n_times))?;
    criterion.final_summary();
    Ok(())
}

/// Measures every backend and every bare loop, with `n_pairs` registered.
///
/// `work` performs an operation the given number of times and returns its duration.
fn measure(
    mut group: BenchmarkGroup<'_, WallTime>,
    n_pairs: usize,
    mut work: impl FnMut(&mut dyn Contender, &Pairs, u64) -> io::Result<Took>,
) -> io::Result<()> {
    for &backend in Backend::available() {
        if backend == Backend::Select && n_pairs > MAX_SELECT_PAIRS {
            continue;
        }
        // The contenders come first: select's own descriptor must be below its limit.
        let selected: Box<dyn Contender> = Box::new(Selected::new(backend)?);
        let mut contenders = vec![(backend.to_string(), selected)];
        contenders.extend(bare_contender(backend)?.map(|bare| (format!("bare {backend}"), bare)));
        let pairs = Pairs::new(n_pairs)?;
        for (name, mut contender) in contenders {
            contender.watch(&pairs)?;
            group.bench_function(BenchmarkId::new(name, n_pairs), |bencher| {
                bencher.iter_custom(|n_times| {
                    let took = work(contender.as_mut(), &pairs, n_times);
                    black_box(took).expect("the operation succeeded before").time
                });
            });
            contender.unwatch(&pairs)?;
        }
    }
    group.finish();
    Ok(())
}
