//! Aim: the environment sets what the code has not set, and invalid values are refused by name.
//!
//! The environment belongs to the process, so each case runs in a separate one.

mod common;

use std::future::pending;
use std::io;
use std::process::Stdio;

use polyloop::{Backend, Runtime, gather};

use common::{process, role};

/// Runs this test in a process whose environment has `value` for `name`. Returns `false` in that process.
fn is_checked_with(test: &str, name: &str, value: &str) -> bool {
    if role().is_some() {
        return false;
    }
    let output = process(test, value).env(name, value).stdout(Stdio::piped()).output();
    let output = output.expect("this program can be run again");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{name}={value}: {printed}");
    true
}

#[test]
fn debug_mode_is_enabled() {
    if is_checked_with("debug_mode_is_enabled", "POLYLOOP_DEBUG", "1") {
        return;
    }
    let error = Runtime::new().unwrap().block_on(pending::<()>()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Deadlock);
}

#[test]
fn a_seed_has_the_same_effect_as_the_builders() {
    if is_checked_with("a_seed_has_the_same_effect_as_the_builders", "POLYLOOP_SEED", "5") {
        return;
    }
    let order = |runtime: io::Result<Runtime>| {
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks = (0..50).map(|number| {
            let order = order.clone();
            async move { order.borrow_mut().push(number) }
        });
        runtime.unwrap().block_on(gather(tasks)).unwrap();
        order.take()
    };
    let seeded = order(Runtime::new());
    assert_eq!(seeded, order(Runtime::builder().seed(5).build()));
    assert_ne!(seeded, order(Runtime::builder().seed(6).build()));
    assert!(!seeded.is_sorted());
}

#[test]
fn a_backend_is_chosen() {
    if is_checked_with("a_backend_is_chosen", "POLYLOOP_BACKEND", "select") {
        return;
    }
    assert_eq!(Runtime::new().unwrap().backend(), Backend::Select);
    let poll = Runtime::builder().backend(Backend::Poll).build();
    assert_eq!(poll.unwrap().backend(), Backend::Poll);
}

#[test]
fn invalid_values_are_refused_by_name() {
    let names = ["POLYLOOP_DEBUG", "POLYLOOP_SEED", "POLYLOOP_BACKEND"];
    for name in names {
        if !is_checked_with("invalid_values_are_refused_by_name", name, "perhaps") {
            let error = Runtime::new().unwrap_err();
            assert!(error.to_string().contains("perhaps"), "{error}");
            return;
        }
    }
}
