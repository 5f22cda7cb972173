//! The contract of [`Selector`], as tests: for the selectors of this crate and for anyone's.
//!
//! [`selector_conformance!`](crate::selector_conformance) makes a module with a test for each
//! promise. Behind the feature `conformance`.
//!
//! The tests are grouped as the contract is: book-keeping, waiting, reports, what the [`states`]
//! of a descriptor look like, and descriptors that are closed while they are registered. Those
//! that count or reuse descriptor numbers run alone among the tests of the suite.
//!
//! Signals may interrupt its waits, as they do when the process is stopped and continues, if the
//! selector says so ([`WaitEnd::Signal`]).

mod books;

mod closing;

mod reports;

pub mod states;

mod waits;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::{Backend, Event, Events, Interest, Mode, Readiness, Selector, Token, WaitEnd};

use self::{books::*, closing::*, reports::*, states::*, waits::*};

#[doc(hidden)]
pub use crate::sys::testing::{
    alarm_every, close_number, descriptor_limit, disposition, ignore, in_forked_child,
    open_numbers, raise, set_descriptor_limit,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
#[doc(hidden)]
pub use crate::sys::testing::{keep_errors, take_kept_error};

/// Makes a module of tests from a function that makes a selector.
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

/// Makes the test functions of [`selector_conformance!`].
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

/// Makes the table that [`run`] looks into.
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
            get_and_registrations_tell_what_is_registered
            a_number_can_be_registered_again
            unregistering_silences_what_is_ready
            a_new_token_costs_no_system_call
            a_new_interest_replaces_the_old_one
            a_regular_file_is_always_ready_or_refused_without_a_trace
            a_selector_lends_a_descriptor_that_programs_do_not_inherit
            a_selector_can_be_watched_by_another
            a_selector_does_not_watch_itself
            a_wait_without_descriptors_takes_its_time
            a_wait_is_never_early
            a_wait_of_zero_only_looks
            a_short_wait_does_not_turn_into_many
            a_huge_timeout_waits_until_something_happens
            a_notification_before_the_wait_ends_it
            a_notification_during_the_wait_ends_it
            a_notification_after_the_wait_ends_the_next_one
            many_notifications_end_one_wait
            ten_threads_that_notify_at_once_are_heard
            a_notification_hides_no_event
            an_empty_wait_tells_what_has_ended_it
            a_notifier_outlives_its_selector
            a_selector_works_on_another_thread
            a_level_is_reported_for_as_long_as_it_lasts
            reports_are_masked_by_the_interest
            a_descriptor_ready_both_ways_is_one_event
            a_full_peer_is_not_writable_until_it_reads
            a_one_shot_is_reported_once_until_modified
            a_one_shot_disarms_both_directions
            a_one_shot_that_fired_does_not_hear_the_peer_close
            a_one_shot_that_fired_can_be_unregistered_and_come_back
            a_mode_can_be_changed
            an_edge_is_reported_when_more_arrives
            an_edge_that_began_before_is_reported
            an_edge_tells_the_end_of_the_stream
            what_is_new_after_a_short_read_is_an_edge
            more_ready_descriptors_than_fit_are_all_served
            nothing_is_lost_that_did_not_fit
            two_selectors_can_watch_one_descriptor
            a_duplicate_is_a_registration_of_its_own
            datagrams_are_readable_until_the_last_is_read
            out_of_band_data_is_priority_or_not_supported
            hundreds_of_descriptors_are_told_apart
            an_empty_pipe_without_writer_hangs_up
            a_pipe_without_writer_gives_its_data_first
            a_pipe_without_reader_is_an_error_to_its_writer
            a_socket_that_was_never_connected_hangs_up
            a_refused_connection_is_an_error_in_both_directions
            a_peer_that_sends_no_more_closes_the_read_side
            a_peer_that_closed_looks_like_one_that_sends_no_more
            the_end_of_a_stream_does_not_hide_its_data
            a_writer_alone_is_not_told_of_the_read_side
            a_reset_is_an_error_in_both_directions
            an_error_does_not_hide_behind_data
            our_own_shutdown_of_reading_is_reported
            our_own_shutdown_of_writing_is_no_hang_up
            our_own_shutdown_of_both_is_a_hang_up
            a_closed_unix_stream_hangs_up
            an_unreachable_port_wakes_a_reader_without_data
            a_waiting_client_makes_the_listener_readable
            a_client_that_reset_does_not_silence_the_listener
            files_directories_and_the_null_device_agree
            a_terminal_can_be_watched
            a_kept_error_is_told_until_it_is_read
            a_descriptor_that_only_names_a_file_is_refused_or_invalid
            a_number_that_is_not_open_is_refused
            a_closed_descriptor_is_told_once_or_not_at_all
            a_closed_one_shot_is_told_once_or_not_at_all
            several_closed_descriptors_are_told_a_few_at_a_time
            a_closed_descriptor_with_a_duplicate_does_not_spin
            a_ghost_does_not_spin
            a_ghost_does_not_lengthen_a_wait
            a_ghost_is_not_taken_for_the_next_owner_of_its_number
            many_ghosts_hide_no_event
            a_ghost_does_not_silence_the_selectors_own_descriptor
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

/// What a test is given: a function that makes a selector.
type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Selector>>;

type Test = fn(Open<'_>);

crate::__selector_tests! { [table] () }

/// Keeps tests apart that must be alone with the process's descriptors.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// Runs one test. [`selector_conformance!`](crate::selector_conformance) calls it.
///
/// # Panics
/// If the selector breaks the promise, or there is no test of that name.
pub fn run(test: &str, open: &dyn Fn() -> io::Result<Box<dyn Selector>>) {
    let (_, function) = TESTS.iter().find(|(name, _)| *name == test).expect("the list has it");
    // A test that failed holds no descriptors that another would miss: poison is no matter.
    if closing::ALONE.contains(&test) {
        let _alone = DESCRIPTORS.write().unwrap_or_else(PoisonError::into_inner);
        function(open);
    } else {
        let _shared = DESCRIPTORS.read().unwrap_or_else(PoisonError::into_inner);
        function(open);
    }
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test waits for what must not come.
const QUIET: Duration = Duration::from_millis(30);

/// How many waits in the kernel one quiet wait may take. A selector may look a number of times
/// before it finds out what disturbs it; one that spins makes thousands.
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
        Scene::with_room(open, 64)
    }

    fn with_room(open: Open<'_>, n_events: usize) -> Scene {
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

    /// Waits once, and for the rest of the timeout if a signal has interrupted that: what ends a wait
    /// in a test has to be what the test is about.
    #[track_caller]
    fn select(&mut self, timeout: Option<Duration>) -> Vec<Event> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut rest = timeout;
        loop {
            self.selector.select(&mut self.events, rest).expect("select succeeds");
            if self.events.wait_end() != WaitEnd::Signal {
                return self.events.iter().copied().collect();
            }
            if let Some(deadline) = deadline {
                rest = Some(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Only looks.
    #[track_caller]
    fn look(&mut self) -> Vec<Event> {
        self.select(Some(Duration::ZERO))
    }

    /// Waits for an event.
    #[track_caller]
    fn wait(&mut self) -> Vec<Event> {
        let events = self.select(Some(PATIENCE));
        assert!(!events.is_empty(), "nothing was reported");
        events
    }

    /// Waits until `token` is all that is reported, as `expected`: the network is not always there
    /// at once.
    #[track_caller]
    fn expect(&mut self, token: Token, expected: Readiness) {
        let expected = vec![Event { token, readiness: expected }];
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.look();
        while events != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
            events = self.look();
        }
        assert_eq!(events, expected);
    }

    /// Checks that nothing is reported, that a wait takes its time, and that it does not spin.
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

/// Returns what was reported of `token`.
fn readiness_of(events: &[Event], token: Token) -> Option<Readiness> {
    events.iter().find(|event| event.token == token).map(|event| event.readiness)
}

/// Reports whether a backend stands on another one. kqueue on Linux does, on epoll, and some of
/// its differences from the real thing nobody above it can make up for.
fn is_emulated(backend: Backend) -> bool {
    backend == Backend::Kqueue && cfg!(target_os = "linux")
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
