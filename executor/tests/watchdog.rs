//! Aim: a test that hangs fails alone, and hides no other.

mod util;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use util::with_watchdog;

fn hang() {
    let is_over = AtomicBool::new(false);
    while !is_over.load(Ordering::Relaxed) {
        thread::park();
    }
}

#[test]
fn a_test_that_hangs_is_a_failure_of_that_test_alone() {
    let hangs = || with_watchdog(Duration::from_millis(20), hang);
    let payload = catch_unwind(AssertUnwindSafe(hangs)).unwrap_err();
    assert!(payload.downcast_ref::<String>().unwrap().contains("a wake-up was lost"));
}

#[test]
fn the_output_or_panic_of_a_test_is_propagated() {
    let limit = Duration::from_secs(60);
    assert_eq!(with_watchdog(limit, || 7), 7);
    let panics = || with_watchdog(limit, move || assert!(limit.is_zero(), "on purpose"));
    let payload = catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(*payload.downcast_ref::<&str>().unwrap(), "on purpose");
}
