//! Aim: blocking work has minimal overhead. The test counts the allocations of a round trip, which are
//! deterministic.
//!
//! The count is for the whole process, so this test is alone in its file.

use std::alloc::System;

use polyloop_executor::{Builder, spawn_blocking};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_round_trip_allocates_its_work_and_its_outcome_and_nothing_else() {
    const N: usize = 1_000;
    // In debug mode a loop that goes to sleep counts the process's threads, which allocates.
    let runtime = Builder::new().debug(false).build().unwrap();
    let measured = runtime.block_on(async {
        let trips = async |n: usize| {
            for i in 0..n {
                assert_eq!(spawn_blocking(move || i).await.unwrap(), i);
            }
        };
        trips(N).await;
        let before = ALLOCATOR.stats();
        trips(N).await;
        let during = ALLOCATOR.stats() - before;
        // The loop's wakers fit into a pointer of 64 bits. A thread may still be started, and a
        // queue may grow.
        let per_trip = if cfg!(target_pointer_width = "64") { 2 } else { 3 };
        assert!(during.allocations <= per_trip * N + 50, "{during:?}");
    });
    measured.unwrap();
}
