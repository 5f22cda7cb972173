//! Registration, and the calls that are refused.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

use super::{A, B, BOTH, Open, READ, Scene, WRITE, pair};
use crate::{Backend, Interest, Mode, Readiness, Registration};

pub(super) fn registering_twice_is_already_exists(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    scene.register(&end, A, WRITE, Mode::Level);
    let error = scene.selector.register(end.as_fd(), B, READ, Mode::Level).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    // The first registration is as it was.
    scene.expect(A, Readiness::WRITABLE);
}

pub(super) fn modifying_the_unknown_is_not_found(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    let error = scene.selector.modify(end.as_fd(), A, READ, Mode::Level).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    scene.register(&end, A, READ, Mode::Level);
    scene.unregister(&end);
    let error = scene.selector.modify(end.as_fd(), A, WRITE, Mode::Level).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    scene.expect_quiet();
}

pub(super) fn unregistering_the_unknown_is_not_found(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    assert_eq!(scene.selector.unregister(end.as_fd()).unwrap_err().kind(), ErrorKind::NotFound);
    scene.register(&end, A, READ, Mode::Level);
    scene.unregister(&end);
    assert_eq!(scene.selector.unregister(end.as_fd()).unwrap_err().kind(), ErrorKind::NotFound);
}

pub(super) fn an_empty_interest_is_invalid_input(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    let result = scene.selector.register(end.as_fd(), A, Interest::NONE, Mode::Level);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(scene.selector.registrations(), []);
    scene.register(&end, A, WRITE, Mode::Level);
    let result = scene.selector.modify(end.as_fd(), B, Interest::NONE, Mode::Level);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    scene.expect(A, Readiness::WRITABLE);
}

pub(super) fn a_mode_that_is_not_supported_is_refused(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    for mode in [Mode::Level, Mode::OneShot, Mode::Edge] {
        let result = scene.selector.register(end.as_fd(), A, WRITE, mode);
        if scene.selector.supports(mode) {
            result.unwrap();
        } else {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
            assert_eq!(scene.selector.registrations(), []);
            scene.register(&end, A, WRITE, Mode::Level);
            let result = scene.selector.modify(end.as_fd(), B, READ, mode);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        }
        scene.expect(A, Readiness::WRITABLE);
        scene.unregister(&end);
    }
}

pub(super) fn level_and_one_shot_are_supported_everywhere(open: Open<'_>) {
    let selector = open().unwrap();
    assert!(selector.supports(Mode::Level) && selector.supports(Mode::OneShot));
}

pub(super) fn get_and_registrations_return_what_is_registered(open: Open<'_>) {
    use std::os::fd::AsRawFd;

    let mut scene = Scene::new(open);
    let (one, other) = pair();
    assert_eq!(scene.selector.get(one.as_fd()), None);
    assert_eq!(scene.selector.registrations(), []);
    scene.register(&one, A, READ, Mode::OneShot);
    scene.register(&other, B, BOTH, Mode::Level);
    let first = Registration { fd: one.as_raw_fd(), token: A, interest: READ, mode: Mode::OneShot };
    let mut second =
        Registration { fd: other.as_raw_fd(), token: B, interest: BOTH, mode: Mode::Level };
    let list = scene.selector.registrations();
    assert!(list.len() == 2 && list.contains(&first) && list.contains(&second), "{list:?}");
    scene.modify(&other, A, WRITE, Mode::OneShot);
    (second.token, second.interest, second.mode) = (A, WRITE, Mode::OneShot);
    assert_eq!(scene.selector.get(other.as_fd()), Some(second));
    scene.unregister(&one);
    assert_eq!(scene.selector.registrations(), [second]);
}

pub(super) fn a_number_can_be_registered_again(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    for token in [A, B, A] {
        scene.register(&end, token, WRITE, Mode::Level);
        scene.expect(token, Readiness::WRITABLE);
        scene.unregister(&end);
        scene.expect_quiet();
    }
}

pub(super) fn unregistering_silences_what_is_ready(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    for mode in [Mode::Level, Mode::OneShot, Mode::Edge] {
        if !scene.selector.supports(mode) {
            continue;
        }
        scene.register(&one, A, READ, mode);
        other.write_all(b"x").unwrap();
        scene.unregister(&one);
        scene.expect_quiet();
    }
}

pub(super) fn a_new_token_costs_no_system_call(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, A, READ, Mode::Level);
    scene.poll();
    let before = scene.selector.system_calls();
    scene.modify(&one, B, READ, Mode::Level);
    assert_eq!(scene.selector.system_calls(), before);
    other.write_all(b"x").unwrap();
    scene.expect(B, Readiness::READABLE);
}

pub(super) fn a_new_interest_replaces_the_old_one(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    other.write_all(b"x").unwrap();
    let table = [
        (READ, Readiness::READABLE),
        (WRITE, Readiness::WRITABLE),
        (BOTH, Readiness::READABLE | Readiness::WRITABLE),
        (READ, Readiness::READABLE),
    ];
    scene.register(&one, A, WRITE, Mode::Level);
    for (interest, readiness) in table {
        scene.modify(&one, A, interest, Mode::Level);
        scene.expect(A, readiness);
    }
}

pub(super) fn a_regular_file_is_always_ready_or_refused_without_a_trace(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let file = File::open("/proc/self/exe").or_else(|_| File::open("/bin/sh")).unwrap();
    for _ in 0..1_000 {
        match scene.selector.register(file.as_fd(), A, READ, Mode::Level) {
            Ok(()) => {
                assert!(!scene.selector.refuses_files());
                scene.expect(A, Readiness::READABLE);
                scene.unregister(&file);
            }
            Err(error) => {
                assert!(scene.selector.refuses_files());
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                assert!(error.to_string().contains("regular file"), "{error}");
            }
        }
        assert_eq!(scene.selector.registrations(), []);
    }
    scene.expect_quiet();
}

pub(super) fn the_descriptor_of_a_selector_is_not_inherited_by_programs(open: Open<'_>) {
    let scene = Scene::new(open);
    if let Some(fd) = scene.selector.pollable_fd() {
        assert!(!crate::sys::testing::is_inherited(fd).unwrap());
    }
}

pub(super) fn a_selector_can_be_watched_by_another(open: Open<'_>) {
    let mut inner = Scene::new(open);
    let mut outer = Scene::new(&|| Backend::Poll.open());
    let (one, mut other) = pair();
    inner.register(&one, A, READ, Mode::Level);
    let Some(fd) = inner.selector.pollable_fd() else { return };
    outer.register(fd, B, READ, Mode::Level);
    outer.expect_quiet();
    other.write_all(b"x").unwrap();
    outer.expect(B, Readiness::READABLE);
    inner.expect(A, Readiness::READABLE);
    // What is changed between two turns is seen, too.
    inner.unregister(&one);
    inner.poll();
    outer.expect_quiet();
    inner.register(&one, A, WRITE, Mode::OneShot);
    outer.expect(B, Readiness::READABLE);
    inner.expect(A, Readiness::WRITABLE);
    inner.modify(&one, A, READ, Mode::OneShot);
    outer.expect(B, Readiness::READABLE);
}

pub(super) fn a_selector_does_not_watch_itself(open: Open<'_>) {
    use std::os::fd::AsRawFd;

    let mut scene = Scene::new(open);
    let Some(fd) = scene.selector.pollable_fd().map(|fd| fd.as_raw_fd()) else { return };
    let itself = crate::sys::testing::number(fd);
    // Refused, or silent: never a loop.
    if scene.selector.register(itself, A, READ, Mode::Level).is_err() {
        assert_eq!(scene.selector.registrations(), []);
    }
    scene.expect_quiet();
}
