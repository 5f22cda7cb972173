//! The contract of [`Selector`] as tests, for the selectors of this crate and others.
//!
//! [`selector_conformance!`](crate::selector_conformance) expands to a module with a test for each
//! part of the contract. Requires the feature `conformance`.
//!
//! The tests are grouped like the contract: registration, waiting, reports, the readiness in each of the
//! [`states`] of a descriptor, and descriptors that are closed while they are registered. Tests
//! that count or reuse descriptor numbers do not run in parallel with others of the suite.
//!
//! Signals may interrupt the waits, as they do when the process is stopped and continues, if the
//! selector reports [`WaitEnd::Signal`].

mod registration;

mod closing;

mod kqueue;

mod reports;

pub mod states;

mod waits;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::{Backend, Event, Events, Interest, Mode, Readiness, Selector, Token, WaitEnd};

use self::{closing::*, registration::*, reports::*, states::*, waits::*};

#[doc(hidden)]
pub use self::kqueue::*;

#[doc(hidden)]
pub use crate::sys::testing::{
    alarm_every, close_number, descriptor_limit, disposition, ignore, in_forked_child,
    open_numbers, raise, set_descriptor_limit,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
#[doc(hidden)]
pub use crate::sys::testing::{keep_errors, take_kept_error};

/// Expands to a module of tests for the selectors that a function opens.
///
/// # Examples
/// ```
/// polyloop_reactor::selector_conformance!(on_poll, || polyloop_reactor::Backend::Poll.open());
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! selector_conformance {
    ($module:ident, $open:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__selector_tests! { [$crate::__selector_test_functions] ($open) }
        }
    };
}

/// Expands to the test functions of [`selector_conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __selector_test_functions {
    (($open:expr) $($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::run(stringify!($test), &|| ($open)());
            }
        )*
    };
}

/// Expands to the table that [`run`] searches.
macro_rules! table {
    (() $($test:ident)*) => {
        const TESTS: &[(&str, Test)] = &[$((stringify!($test), $test)),*];
    };
}

/// Lists the tests, once, for both macros above.
#[doc(hidden)]
#[macro_export]
macro_rules! __selector_tests {
    ([$($with:tt)*] $arguments:tt) => {
        $($with)*! {
            $arguments
            registering_twice_is_already_exists
            modifying_the_unknown_is_not_found
            unregistering_the_unknown_is_not_found
            an_empty_interest_is_invalid_input
            a_mode_that_is_not_supported_is_refused
            level_and_one_shot_are_supported_everywhere
            get_and_registrations_return_what_is_registered
            a_number_can_be_registered_again
            unregistering_silences_what_is_ready
            a_new_token_costs_no_system_call
            a_new_interest_replaces_the_old_one
            a_regular_file_is_always_ready_or_refused_without_a_trace
            the_descriptor_of_a_selector_is_not_inherited_by_programs
            a_selector_can_be_watched_by_another
            a_selector_does_not_watch_itself
            a_wait_without_descriptors_lasts_until_its_timeout
            a_wait_is_never_early
            a_wait_of_zero_does_not_block
            a_short_wait_does_not_turn_into_many
            a_huge_timeout_waits_until_something_happens
            a_notification_before_the_wait_ends_it
            a_notification_during_the_wait_ends_it
            a_notification_after_the_wait_ends_the_next_one
            many_notifications_end_one_wait
            ten_threads_that_notify_at_once_end_the_wait
            a_notification_hides_no_event
            an_empty_wait_reports_what_ended_it
            a_notifier_outlives_its_selector
            a_selector_works_on_another_thread
            a_level_is_reported_for_as_long_as_it_lasts
            reports_are_masked_by_the_interest
            a_descriptor_ready_both_ways_is_one_event
            a_full_peer_is_not_writable_until_it_reads
            a_one_shot_is_reported_once_until_modified
            a_one_shot_disarms_both_directions
            a_one_shot_that_fired_does_not_report_that_the_peer_closed
            a_one_shot_that_fired_can_be_unregistered_and_registered_again
            a_mode_can_be_changed
            an_edge_is_reported_when_more_arrives
            an_edge_from_before_the_registration_is_reported
            an_edge_reports_the_end_of_the_stream
            what_is_new_after_a_short_read_is_an_edge
            more_ready_descriptors_than_fit_are_all_served
            no_event_is_lost_that_did_not_fit
            two_selectors_can_watch_one_descriptor
            a_duplicate_is_a_separate_registration
            datagrams_are_readable_until_the_last_is_read
            out_of_band_data_is_priority_or_not_supported
            hundreds_of_descriptors_are_distinguished
            an_empty_pipe_without_writer_hangs_up
            a_pipe_without_writer_reports_its_data_first
            a_pipe_without_reader_is_an_error_for_its_writer
            a_socket_that_was_never_connected_hangs_up
            a_refused_connection_is_an_error_in_both_directions
            a_peer_that_sends_no_more_closes_the_read_side
            a_closed_peer_is_reported_like_one_that_sends_no_more
            the_end_of_a_stream_does_not_hide_its_data
            a_writer_alone_gets_no_report_of_the_read_side
            a_reset_is_an_error_in_both_directions
            data_does_not_hide_an_error
            our_own_shutdown_of_reading_is_reported
            our_own_shutdown_of_writing_is_no_hang_up
            our_own_shutdown_of_both_is_a_hang_up
            a_closed_unix_stream_hangs_up
            an_unreachable_port_wakes_a_reader_without_data
            a_waiting_client_makes_the_listener_readable
            a_client_that_reset_does_not_silence_the_listener
            files_directories_and_the_null_device_agree
            a_terminal_can_be_watched
            a_kept_error_is_reported_until_it_is_read
            a_descriptor_that_only_names_a_file_is_refused_or_invalid
            a_number_that_is_not_open_is_refused
            a_closed_descriptor_is_reported_once_or_not_at_all
            a_closed_one_shot_is_reported_once_or_not_at_all
            several_closed_descriptors_are_reported_a_few_at_a_time
            a_closed_descriptor_with_a_duplicate_does_not_spin
            a_stale_registration_does_not_spin
            a_stale_registration_does_not_lengthen_a_wait
            a_stale_registration_is_not_confused_with_the_next_owner_of_its_number
            many_stale_registrations_hide_no_event
            a_stale_registration_does_not_silence_the_selectors_own_descriptor
            unregistering_spares_the_next_owner_of_the_number
            unregistering_a_number_that_went_to_a_regular_file_succeeds
            the_same_file_can_come_back_under_the_same_number
            modifying_a_number_that_has_another_file_watches_the_new_one
            a_descriptor_beyond_the_limit_of_select_is_refused
            more_than_1024_descriptors_are_watched
            a_selector_closes_what_it_opened
        }
    };
}

/// The argument of a test: a function that opens a selector.
type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Selector>>;

type Test = fn(Open<'_>);

crate::__selector_tests! { [table] () }

/// Held for writing by tests that must not run in parallel with others.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// Runs one test. [`selector_conformance!`](crate::selector_conformance) calls it.
///
/// # Panics
/// Panics if the test fails, or if there is no test of that name.
pub fn run(test: &str, open: &dyn Fn() -> io::Result<Box<dyn Selector>>) {
    let (_, function) = TESTS.iter().find(|(name, _)| *name == test).expect("the list has it");
    // A failed test leaves nothing behind that matters to others, so poisoning is ignored.
    if closing::ALONE.contains(&test) {
        let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
        function(open);
    } else {
        let _shared = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
        function(open);
    }
}

/// How long a test waits for an expected event.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a test waits to check that there is no event.
const QUIET: Duration = Duration::from_millis(30);

/// How many waits in the kernel one wait without events may take. A selector may wait several times
/// before it detects a stale registration; one that spins makes thousands.
const N_WAITS_MAX: u64 = 200;

const A: Token = Token::from_raw(0xa);
const B: Token = Token::from_raw(0xb);

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const BOTH: Interest = READ.union(WRITE);

/// A selector with room for events.
struct Scene {
    selector: Box<dyn Selector>,
    events: Events,
}

impl Scene {
    fn new(open: Open<'_>) -> Scene {
        Scene::with_capacity(open, 64)
    }

    fn with_capacity(open: Open<'_>, n_events: usize) -> Scene {
        let selector = open().expect("the selector opens");
        Scene { selector, events: Events::with_capacity(n_events) }
    }

    #[track_caller]
    fn register(
        &mut self,
        fd: impl std::os::fd::AsFd,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) {
        self.selector.register(fd.as_fd(), token, interest, mode).expect("register succeeds");
    }

    #[track_caller]
    fn modify(&mut self, fd: impl std::os::fd::AsFd, token: Token, interest: Interest, mode: Mode) {
        self.selector.modify(fd.as_fd(), token, interest, mode).expect("modify succeeds");
    }

    #[track_caller]
    fn unregister(&mut self, fd: impl std::os::fd::AsFd) {
        self.selector.unregister(fd.as_fd()).expect("unregister succeeds");
    }

    /// Waits once, and for the remaining time if a signal has interrupted the wait, so that only what a test is
    /// about ends its waits.
    #[track_caller]
    fn select(&mut self, timeout: Option<Duration>) -> Vec<Event> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = timeout;
        loop {
            self.selector.select(&mut self.events, left).expect("select succeeds");
            if self.events.wait_end() != WaitEnd::Signal {
                return self.events.iter().copied().collect();
            }
            if let Some(deadline) = deadline {
                left = Some(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Waits without blocking.
    #[track_caller]
    fn poll(&mut self) -> Vec<Event> {
        self.select(Some(Duration::ZERO))
    }

    /// Waits for an event.
    #[track_caller]
    fn wait(&mut self) -> Vec<Event> {
        let events = self.select(Some(LIMIT));
        assert!(!events.is_empty(), "nothing was reported");
        events
    }

    /// Waits until `token` is the only one reported, with `expected`. Over the network this may take a moment.
    #[track_caller]
    fn expect(&mut self, token: Token, expected: Readiness) {
        let expected = vec![Event { token, readiness: expected }];
        let deadline = Instant::now() + LIMIT;
        let mut events = self.poll();
        while events != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
            events = self.poll();
        }
        assert_eq!(events, expected);
    }

    /// Checks that nothing is reported, and that a wait lasts until its timeout and does not spin.
    #[track_caller]
    fn expect_quiet(&mut self) {
        let before = self.selector.system_calls().waits;
        let begin = Instant::now();
        let events = self.select(Some(QUIET));
        assert_eq!(events, [], "something was reported");
        assert!(begin.elapsed() >= QUIET, "the wait ended early");
        let n_waits = self.selector.system_calls().waits - before;
        assert!(n_waits < N_WAITS_MAX, "{n_waits} waits in the kernel");
    }
}

/// Returns the readiness that was reported for `token`.
fn readiness_of(events: &[Event], token: Token) -> Option<Readiness> {
    events.iter().find(|event| event.token == token).map(|event| event.readiness)
}

/// Returns whether the selectors are built on libkqueue, some of whose differences from a kernel
/// cannot be compensated. Of all selectors for kqueue, only its cannot be watched.
fn is_library(open: Open<'_>) -> bool {
    let selector = open().expect("the selector opens");
    selector.backend() == Backend::Kqueue && selector.pollable_fd().is_none()
}

/// A connected pair over TCP on this machine: the accepted end and the connecting one.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    let connecting = TcpStream::connect(address).expect("the listener is there");
    let (accepted, _) = listener.accept().expect("a connection waits");
    (accepted, connecting)
}

/// A connected pair of Unix streams.
fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("a pair can be made")
}
