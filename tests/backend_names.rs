//! The filters that CONTRIBUTING.md names select the tests of one backend.

mod common;

use std::process::Command;

use polyloop::{Backend, Runtime};

backends!(a_runtime_has_the_backend_of_the_module);

fn a_runtime_has_the_backend_of_the_module(backend: Backend) {
    let runtime = Runtime::builder().backend(backend).build().unwrap();
    assert_eq!(runtime.backend(), backend);
}

/// The test harness filters by substring: "poll::" is a substring of "epoll::" too.
#[test]
fn a_filter_selects_the_tests_of_one_backend() {
    for backend in Backend::available() {
        let this = std::env::current_exe().unwrap();
        let filter = format!("on_{backend}::");
        let output = Command::new(this).args(["--list", &filter]).output().unwrap();
        let list = String::from_utf8(output.stdout).unwrap();
        let selected: Vec<&str> = list.lines().filter(|line| line.ends_with(": test")).collect();
        assert_eq!(selected, [format!("{filter}a_runtime_has_the_backend_of_the_module: test")]);
    }
}
