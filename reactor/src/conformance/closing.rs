//! Descriptors that are closed while they are registered: a mistake that must not affect other descriptors.
//!
//! These tests depend on descriptor numbers, so they do not run in parallel with others.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{A, B, Open, QUIET, READ, Scene, WRITE, is_library, pair, readiness_of};
use crate::sys::testing::{duplicate_from, is_open, number};
use crate::{Backend, Mode, Readiness, Token, os_error};

/// The tests that run alone.
pub(super) const ALONE: &[&str] = &[
    "a_number_that_is_not_open_is_refused",
    "a_closed_descriptor_is_reported_once_or_not_at_all",
    "a_closed_one_shot_is_reported_once_or_not_at_all",
    "a_closed_descriptor_with_a_duplicate_does_not_spin",
    "a_stale_registration_does_not_spin",
    "a_stale_registration_does_not_lengthen_a_wait",
    "a_stale_registration_is_not_confused_with_the_next_owner_of_its_number",
    "many_stale_registrations_hide_no_event",
    "a_stale_registration_does_not_silence_the_selectors_own_descriptor",
    "unregistering_spares_the_next_owner_of_the_number",
    "unregistering_a_number_that_went_to_a_regular_file_succeeds",
    "the_same_file_can_come_back_under_the_same_number",
    "modifying_a_number_that_has_another_file_watches_the_new_one",
    "several_closed_descriptors_are_reported_a_few_at_a_time",
    "a_descriptor_beyond_the_limit_of_select_is_refused",
    "more_than_1024_descriptors_are_watched",
    "a_selector_closes_what_it_opened",
];

/// A number above those that a test hands out otherwise.
const HIGH: RawFd = 600;

/// Registers `fd` under the token A, and closes it.
#[track_caller]
fn register_and_close(scene: &mut Scene, fd: OwnedFd, mode: Mode) -> RawFd {
    scene.register(&fd, A, READ, mode);
    scene.poll();
    fd.as_raw_fd()
}

/// Waits often, and checks that `A` is reported as invalid once at most, and soon not at all.
#[track_caller]
fn expect_silence_of_a(scene: &mut Scene) {
    let mut n_invalid = 0;
    // Some backends believe a number of reports before they check one.
    for _ in 0..1_000 {
        let reported = readiness_of(&scene.poll(), A);
        n_invalid += usize::from(reported.is_some_and(Readiness::is_invalid));
    }
    assert!(n_invalid <= 1, "reported {n_invalid} times");
    for _ in 0..100 {
        assert_eq!(readiness_of(&scene.poll(), A), None);
    }
}

pub(super) fn a_number_that_is_not_open_is_refused(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let backend = scene.selector.backend();
    // The last would take gigabytes in a table by number.
    for fd in [HIGH, 1_023, 1 << 20, 1 << 28, RawFd::MAX] {
        assert!(!is_open(fd), "another thread took {fd}");
        let error = scene.selector.register(number(fd), A, READ, Mode::Level).unwrap_err();
        let is_named = os_error(&error) == Some(libc::EBADF);
        let is_out_of_range = backend == Backend::Select && fd >= 1_024;
        assert!(is_named || is_out_of_range, "{fd}: {error}");
        assert_eq!(scene.selector.registrations(), []);
        assert_eq!(scene.poll(), []);
    }
}

pub(super) fn a_closed_descriptor_is_reported_once_or_not_at_all(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, _other) = pair();
    let (third, mut fourth) = pair();
    scene.register(&third, B, READ, Mode::Level);
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    // The others are served in the same wait.
    fourth.write_all(b"x").unwrap();
    let events = scene.wait();
    assert_eq!(readiness_of(&events, B), Some(Readiness::READABLE));
    assert!(readiness_of(&events, A).is_none_or(|reported| reported == Readiness::INVALID));
    scene.unregister(&third);
    expect_silence_of_a(&mut scene);
    scene.expect_quiet();
    scene.unregister(number(closed));
    assert_eq!(scene.selector.registrations(), []);
}

pub(super) fn a_closed_one_shot_is_reported_once_or_not_at_all(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, _other) = pair();
    let closed = register_and_close(&mut scene, one.into(), Mode::OneShot);
    expect_silence_of_a(&mut scene);
    scene.expect_quiet();
    scene.unregister(number(closed));
}

pub(super) fn several_closed_descriptors_are_reported_a_few_at_a_time(open: Open<'_>) {
    const N_CLOSED: u64 = 5;
    let mut scene = Scene::with_capacity(open, 2);
    let pairs: Vec<_> = (0..N_CLOSED).map(|_| pair()).collect();
    let (third, _fourth) = pair();
    scene.register(&third, B, WRITE, Mode::Level);
    for ((end, _), index) in pairs.iter().zip(100..) {
        scene.register(end, Token::from_raw(index), READ, Mode::Level);
    }
    let numbers: Vec<RawFd> = pairs.iter().map(|(end, _)| end.as_raw_fd()).collect();
    drop(pairs);
    let mut invalid = Vec::new();
    let mut n_b = 0;
    for _ in 0..50 {
        for event in scene.wait() {
            if event.token == B {
                n_b += 1;
            } else {
                assert_eq!(event.readiness, Readiness::INVALID);
                invalid.push(event.token);
            }
        }
    }
    invalid.sort_unstable();
    let n_invalid = invalid.len() as u64;
    invalid.dedup();
    assert!(n_invalid == invalid.len() as u64, "one was reported twice");
    assert!(n_invalid == 0 || n_invalid == N_CLOSED, "{n_invalid} of {N_CLOSED} were reported");
    assert!(n_b >= 40, "the open one was reported {n_b} times");
    for fd in numbers {
        scene.unregister(number(fd));
    }
    scene.expect(B, Readiness::WRITABLE);
}

pub(super) fn a_closed_descriptor_with_a_duplicate_does_not_spin(open: Open<'_>) {
    if is_library(open) {
        return;
    }
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    let (third, _fourth) = pair();
    scene.register(&third, B, WRITE, Mode::Level);
    let _duplicate = duplicate_from(one.as_fd(), HIGH).unwrap();
    other.write_all(b"x").unwrap();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    expect_silence_of_a(&mut scene);
    scene.expect(B, Readiness::WRITABLE);
    scene.unregister(&third);
    scene.expect_quiet();
    scene.unregister(number(closed));
    scene.expect_quiet();
}

pub(super) fn a_stale_registration_does_not_spin(open: Open<'_>) {
    if is_library(open) {
        return;
    }
    // As before, but the program unregisters after closing: there is no registration left to report.
    for mode in [Mode::Level, Mode::Edge] {
        let mut scene = Scene::new(open);
        if !scene.selector.supports(mode) {
            continue;
        }
        let (one, mut other) = pair();
        let _duplicate = duplicate_from(one.as_fd(), HIGH).unwrap();
        let closed = register_and_close(&mut scene, one.into(), mode);
        scene.unregister(number(closed));
        other.write_all(b"x").unwrap();
        scene.expect_quiet();
        scene.expect_quiet();
    }
}

pub(super) fn a_stale_registration_does_not_lengthen_a_wait(open: Open<'_>) {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let mut scene = Scene::new(open);
    if !scene.selector.supports(Mode::Edge) || is_library(open) {
        return;
    }
    let (one, mut other) = pair();
    let _duplicate = duplicate_from(one.as_fd(), HIGH).unwrap();
    let closed = register_and_close(&mut scene, one.into(), Mode::Edge);
    scene.unregister(number(closed));
    std::thread::scope(|scope| {
        let noise = scope.spawn(move || {
            for _ in 0..30 {
                other.write_all(b"x").unwrap();
                std::thread::sleep(TIMEOUT / 5);
            }
        });
        let begin = Instant::now();
        assert_eq!(scene.select(Some(TIMEOUT)), []);
        let waited = begin.elapsed();
        assert!(waited >= TIMEOUT, "{waited:?}");
        assert!(!noise.is_finished(), "the wait ended after the noise: {waited:?}");
    });
}

pub(super) fn a_stale_registration_is_not_confused_with_the_next_owner_of_its_number(
    open: Open<'_>,
) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    let (third, mut fourth) = pair();
    let _duplicate = duplicate_from(one.as_fd(), HIGH).unwrap();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    scene.unregister(number(closed));
    let next = duplicate_from(third.as_fd(), closed).unwrap();
    assert_eq!(next.as_raw_fd(), closed, "the number was taken by another thread");
    scene.register(&next, B, READ, Mode::Level);
    other.write_all(b"for the dead").unwrap();
    for _ in 0..300 {
        assert_eq!(
            scene.poll(),
            [],
            "the data of the stale registration was reported for the next owner"
        );
    }
    if !is_library(open) {
        scene.expect_quiet();
    }
    fourth.write_all(b"x").unwrap();
    scene.expect(B, Readiness::READABLE);
}

pub(super) fn many_stale_registrations_hide_no_event(open: Open<'_>) {
    if is_library(open) {
        return;
    }
    const N_GHOSTS: u64 = 40;
    // Less room than stale registrations, so that a batch can be full of them.
    let mut scene = Scene::with_capacity(open, 4);
    let mut kept = Vec::new();
    for index in 0..N_GHOSTS {
        let (one, mut other) = pair();
        kept.push(duplicate_from(one.as_fd(), HIGH).unwrap());
        other.write_all(b"x").unwrap();
        scene.register(&one, Token::from_raw(index), READ, Mode::Level);
        let closed = one.as_raw_fd();
        drop(one);
        scene.unregister(number(closed));
        kept.push(other.into());
    }
    let (third, _fourth) = pair();
    scene.register(&third, B, WRITE, Mode::OneShot);
    assert_eq!(readiness_of(&scene.poll(), B), Some(Readiness::WRITABLE));
    scene.expect_quiet();
}

/// A loop watches the selector's own descriptor, a duplicate of it, by levels or by edges; the
/// selector has to get rid of what it cannot unregister, and is heard afterwards.
pub(super) fn a_stale_registration_does_not_silence_the_selectors_own_descriptor(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let Some(fd) = scene.selector.pollable_fd() else { return };
    let number_lent = fd.as_raw_fd();
    let duplicate = fd.try_clone_to_owned().unwrap();
    let mut watching = Vec::new();
    for backend in Backend::available() {
        for mode in [Mode::Level, Mode::Edge] {
            let mut outer = Scene::new(&|| backend.open());
            if outer.selector.supports(mode) && !is_library(&|| backend.open()) {
                outer.register(&duplicate, B, READ, mode);
                watching.push(outer);
            }
        }
    }
    let (third, mut fourth) = pair();
    scene.register(&third, B, READ, Mode::Level);
    for mode in [Mode::Level, Mode::Edge] {
        let (one, mut other) = pair();
        let stale = UnixStream::from(duplicate_from(one.as_fd(), HIGH).unwrap());
        let closed = register_and_close(&mut scene, one.into(), mode);
        if mode == Mode::Edge {
            scene.unregister(number(closed));
        }
        for _ in 0..300 {
            other.write_all(b"x").unwrap();
            scene.poll();
            (&stale).read_exact(&mut [0]).unwrap();
        }
        if mode == Mode::Level {
            scene.unregister(number(closed));
        }
        drop(stale);
        for _ in 0..3 {
            // What has happened until now.
            scene.poll();
            watching.iter_mut().for_each(|outer| drop(outer.poll()));
            watching.iter_mut().for_each(Scene::expect_quiet);

            fourth.write_all(b"x").unwrap();
            for outer in &mut watching {
                assert_eq!(readiness_of(&outer.wait(), B), Some(Readiness::READABLE));
            }
            scene.expect(B, Readiness::READABLE);
            (&third).read_exact(&mut [0]).unwrap();
        }
        let notifier = scene.selector.notifier().unwrap();
        scene.poll();
        watching.iter_mut().for_each(|outer| drop(outer.poll()));
        notifier.notify().unwrap();
        for outer in &mut watching {
            assert_eq!(readiness_of(&outer.wait(), B), Some(Readiness::READABLE));
        }
    }
    assert_eq!(scene.selector.pollable_fd().unwrap().as_raw_fd(), number_lent);
}

pub(super) fn unregistering_spares_the_next_owner_of_the_number(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let mut elsewhere = Scene::new(open);
    let (one, _other) = pair();
    let (third, mut fourth) = pair();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    let next = duplicate_from(third.as_fd(), closed).unwrap();
    assert_eq!(next.as_raw_fd(), closed, "the number was taken by another thread");
    elsewhere.register(&next, A, READ, Mode::Level);
    scene.unregister(&next);
    assert_eq!(scene.selector.registrations(), []);
    scene.register(&next, B, READ, Mode::Level);
    fourth.write_all(b"x").unwrap();
    scene.expect(B, Readiness::READABLE);
    elsewhere.expect(A, Readiness::READABLE);
}

pub(super) fn unregistering_a_number_that_went_to_a_regular_file_succeeds(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, _other) = pair();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    let next = duplicate_from(file.as_fd(), closed).unwrap();
    assert_eq!(next.as_raw_fd(), closed, "the number was taken by another thread");
    scene.unregister(&next);
    assert_eq!(scene.selector.registrations(), []);
    scene.expect_quiet();
}

pub(super) fn the_same_file_can_come_back_under_the_same_number(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    let duplicate = duplicate_from(one.as_fd(), HIGH).unwrap();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    scene.unregister(number(closed));
    let back = duplicate_from(duplicate.as_fd(), closed).unwrap();
    assert_eq!(back.as_raw_fd(), closed, "the number was taken by another thread");
    scene.register(&back, B, READ, Mode::Level);
    other.write_all(b"x").unwrap();
    scene.expect(B, Readiness::READABLE);
    scene.unregister(&back);
    scene.expect_quiet();
}

pub(super) fn modifying_a_number_that_has_another_file_watches_the_new_one(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, _other) = pair();
    let (third, _fourth) = pair();
    let closed = register_and_close(&mut scene, one.into(), Mode::Level);
    let next = duplicate_from(third.as_fd(), closed).unwrap();
    assert_eq!(next.as_raw_fd(), closed, "the number was taken by another thread");
    scene.modify(&next, B, WRITE, Mode::Level);
    scene.expect(B, Readiness::WRITABLE);
}

pub(super) fn a_descriptor_beyond_the_limit_of_select_is_refused(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let limit = scene.selector.descriptor_limit();
    if scene.selector.backend() == Backend::Select {
        assert_eq!(limit, Some(1_024));
    }
    let (one, _other) = pair();
    for least in [1_023, 1_024, 1_025, 1_500, 9_000] {
        let Ok(high) = duplicate_from(one.as_fd(), least) else { return };
        assert_eq!(high.as_raw_fd(), least, "the number was taken by another thread");
        let result = scene.selector.register(high.as_fd(), A, WRITE, Mode::Level);
        if limit.is_some_and(|limit| least as usize >= limit) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(message.contains("FD_SETSIZE") && message.contains(&least.to_string()));
            assert_eq!(scene.selector.registrations(), []);
            assert_eq!(scene.poll(), []);
        } else {
            result.unwrap();
            scene.expect(A, Readiness::WRITABLE);
            scene.unregister(&high);
        }
    }
}

pub(super) fn more_than_1024_descriptors_are_watched(open: Open<'_>) {
    const N_PAIRS: usize = 1_500;
    let mut scene = Scene::with_capacity(open, N_PAIRS);
    if scene.selector.backend() == Backend::Select {
        return;
    }
    let mut pairs = Vec::new();
    for _ in 0..N_PAIRS {
        // A small limit on open files is no fault of the selector's.
        let Ok(pair) = UnixStream::pair() else { return };
        pairs.push(pair);
    }
    for (index, (end, _)) in pairs.iter().enumerate() {
        scene.register(end, Token::from_raw(index as u64), READ, Mode::Level);
    }
    assert_eq!(scene.poll(), []);
    for (_, other) in &mut pairs {
        other.write_all(b"x").unwrap();
    }
    // In one wait or in several: that is the system's choice.
    let mut tokens = BTreeSet::new();
    for _ in 0..N_PAIRS {
        tokens.extend(scene.wait().iter().map(|event| event.token.raw()));
        if tokens.len() == N_PAIRS {
            break;
        }
    }
    assert!(tokens.into_iter().eq(0..N_PAIRS as u64));
}

pub(super) fn a_selector_closes_what_it_opened(open: Open<'_>) {
    let n_open = || (0..2_000).filter(|&fd| is_open(fd)).count();
    // A library may open descriptors the first time, and close them in the background.
    drop(Scene::new(open));
    std::thread::sleep(QUIET);
    let before = n_open();
    for _ in 0..500 {
        let mut scene = Scene::new(open);
        let notifier = scene.selector.notifier().unwrap();
        scene.select(Some(Duration::ZERO));
        drop(scene);
        drop(notifier);
    }
    let deadline = Instant::now() + super::LIMIT;
    while n_open() > before && Instant::now() < deadline {
        std::thread::sleep(QUIET);
    }
    assert_eq!(n_open(), before);
}
