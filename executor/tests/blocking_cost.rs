//! Aim: blocking work costs no more than it must. What a round trip allocates is counted, which no noise
//! disturbs.
//!
//! The test counts for the process, so it is alone in its file.

use std::alloc::System;

use polyloop_executor::{Builder, spawn_blocking};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_round_trip_allocates_its_work_and_its_outcome_and_nothing_else() {
    const N: usize = 1_000;
    // In debug mode a loop that goes to sleep asks the system how many threads there are, and allocates.
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
