//! System calls that an old kernel lacks or a sandbox refuses: others replace them, and the contract holds.
//!
//! The only test of its file, with each case in a forked child, because a filter of system calls cannot be
//! removed.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use polyloop_reactor::conformance::{self, alarm_every, in_forked_child};
use polyloop_reactor::{Backend, Events, Selector, WakeFd, os_error};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The tests of the contract that wait and notify.
const TESTS: &[&str] = &[
    "a_wait_without_descriptors_lasts_until_its_timeout",
    "a_wait_is_never_early",
    "a_wait_of_zero_does_not_block",
    "a_short_wait_does_not_turn_into_many",
    "a_huge_timeout_waits_until_something_happens",
    "a_notification_before_the_wait_ends_it",
    "a_notification_during_the_wait_ends_it",
    "many_notifications_end_one_wait",
    "ten_threads_that_notify_at_once_end_the_wait",
    "a_notification_hides_no_event",
    "an_empty_wait_reports_what_ended_it",
    "a_level_is_reported_for_as_long_as_it_lasts",
    "a_descriptor_ready_both_ways_is_one_event",
];

fn refuse(calls: &[i64], errno: i32) {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refused = SeccompAction::Errno(errno as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Ends the child if it hangs.
fn hurry() {
    alarm_every(Duration::from_secs(60)).unwrap();
}

fn keeps_the_contract(backend: Backend) -> bool {
    let open = || backend.open();
    for test in TESTS {
        conformance::run(test, &open);
    }
    true
}

/// A pipe that is watched with edges reports nothing while it is full.
fn hears_100_000_notifications(selector: &mut dyn Selector) -> bool {
    let notifier = selector.notifier().unwrap();
    let mut events = Events::with_capacity(8);
    (0..100_000).all(|_| {
        notifier.notify().unwrap();
        selector.select(&mut events, Some(Duration::from_secs(10))).unwrap();
        events.wait_end() == polyloop_reactor::WaitEnd::Notification
    })
}

/// Returns the message and the errno of the error that a wait returns.
fn error_of_a_wait(backend: Backend) -> Option<(String, Option<i32>)> {
    let mut selector = backend.open().unwrap();
    let result = selector.select(&mut Events::with_capacity(8), Some(Duration::ZERO));
    result.err().map(|error| (error.to_string(), os_error(&error)))
}

fn names_the_call(error: &io::Error, call: &str, errno: i32) -> bool {
    error.to_string().contains(call) && os_error(error) == Some(errno)
}

#[test]
fn refused_calls_are_replaced_or_named() {
    let one_of_each = [
        (libc::SYS_eventfd2, Backend::Epoll),
        (libc::SYS_epoll_pwait2, Backend::Epoll),
        (libc::SYS_ppoll, Backend::Poll),
        (libc::SYS_pselect6, Backend::Select),
    ];
    let all = one_of_each.map(|(call, _)| call);
    for errno in [libc::ENOSYS, libc::EPERM] {
        for (call, backend) in one_of_each {
            let child = || {
                hurry();
                refuse(&[call], errno);
                keeps_the_contract(backend)
            };
            assert_eq!(in_forked_child(child).unwrap(), 0, "{backend} without {call}: {errno}");
        }
        let without_all = || {
            hurry();
            refuse(&all, errno);
            let wake = WakeFd::new().unwrap();
            wake.raise().unwrap();
            let backends = [Backend::Select, Backend::Poll, Backend::Epoll];
            wake.drain().unwrap()
                && wake.as_fd().try_clone_to_owned().is_ok()
                && backends.into_iter().all(|backend| {
                    keeps_the_contract(backend)
                        && hears_100_000_notifications(&mut *backend.open().unwrap())
                })
        };
        assert_eq!(in_forked_child(without_all).unwrap(), 0, "without all: {errno}");

        let without_fallback = || {
            hurry();
            let more = [libc::SYS_epoll_create1, libc::SYS_pipe2, libc::SYS_poll, libc::SYS_select];
            // The calls that musl falls back to.
            let older = [libc::SYS_epoll_create, libc::SYS_pipe];
            refuse(&[&all[..], &more, &older].concat(), errno);
            let says = |backend, call: &str| {
                let (words, number) = error_of_a_wait(backend).expect("it is refused");
                words.contains(call) && number == Some(errno)
            };
            names_the_call(&Backend::Epoll.open().unwrap_err(), "epoll_create1", errno)
                && names_the_call(&WakeFd::new().unwrap_err(), "pipe2", errno)
                && says(Backend::Poll, "poll")
                && says(Backend::Select, "select")
        };
        assert_eq!(in_forked_child(without_fallback).unwrap(), 0, "without fallback: {errno}");
    }
}
