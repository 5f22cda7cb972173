//! Runs the suite of the contract against every backend that this system has.

use std::process::Command;

use polyloop_reactor::{Backend, selector_conformance};

selector_conformance!(on_select, || Backend::Select.open());

selector_conformance!(on_poll, || Backend::Poll.open());

#[cfg(any(target_os = "linux", target_os = "android"))]
selector_conformance!(on_epoll, || Backend::Epoll.open());

#[cfg(any(feature = "libkqueue", not(any(target_os = "linux", target_os = "android"))))]
selector_conformance!(on_kqueue, || Backend::Kqueue.open());

/// kqueue as each system's kernel answers, in a model of kevent(2).
#[cfg(any(target_os = "linux", target_os = "android"))]
mod kqueue_models {
    use std::io;

    use polyloop_reactor::conformance::MODELS;
    use polyloop_reactor::{Selector, selector_conformance};

    fn open(name: &str) -> io::Result<Box<dyn Selector>> {
        (MODELS.iter().find(|model| model.name == name).expect("there is a model").open)()
    }

    selector_conformance!(freebsd, || open("freebsd"));

    selector_conformance!(openbsd, || open("openbsd"));

    selector_conformance!(netbsd, || open("netbsd"));

    selector_conformance!(newer_netbsd, || open("newer netbsd"));

    selector_conformance!(dragonfly, || open("dragonfly"));

    selector_conformance!(macos, || open("macos"));
}

#[test]
fn every_backend_of_this_system_is_tested() {
    let tested = [Backend::Select, Backend::Poll, Backend::Epoll, Backend::Kqueue];
    assert!(Backend::available().iter().all(|backend| tested.contains(backend)));
}

/// The test harness filters by substring: "poll::" is a substring of "epoll::" too.
#[test]
fn a_filter_selects_the_tests_of_one_backend() {
    for backend in Backend::available() {
        let filter = format!("on_{backend}::");
        let this = std::env::current_exe().expect("this program has a path");
        let output = Command::new(this).args(["--list", &filter]).output().expect("it runs again");
        let list = String::from_utf8(output.stdout).expect("names are text");
        let mut selected = list.lines().filter(|line| line.ends_with(": test")).peekable();
        assert!(selected.peek().is_some(), "{filter} selects nothing");
        assert!(selected.all(|line| line.starts_with(&filter)), "{filter} selects others too");
    }
}
