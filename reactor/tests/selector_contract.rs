//! Runs the suite of the contract against every backend that this system has.

use polyloop_reactor::{Backend, selector_conformance};

selector_conformance!(select, || Backend::Select.open());

selector_conformance!(poll, || Backend::Poll.open());

#[cfg(any(target_os = "linux", target_os = "android"))]
selector_conformance!(epoll, || Backend::Epoll.open());

#[cfg(any(feature = "libkqueue", not(any(target_os = "linux", target_os = "android"))))]
selector_conformance!(kqueue, || Backend::Kqueue.open());

#[test]
fn every_backend_of_this_system_is_tested() {
    let tested = [Backend::Select, Backend::Poll, Backend::Epoll, Backend::Kqueue];
    assert!(Backend::available().iter().all(|backend| tested.contains(backend)));
}
