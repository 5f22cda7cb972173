//! Scripts that a kernel answers in its own way, each against the model of every kqueue.
//!
//! The contract suite and the differential test run over the models as well. Here is what each
//! answer looks like, spelled out.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use polyloop_reactor::conformance::{KqueueModel, MODELS};
use polyloop_reactor::{Backend, Events, Interest, Mode, Readiness, Selector, Token};

const R: Interest = Interest::READABLE;
const W: Interest = Interest::WRITABLE;
const P: Interest = Interest::PRIORITY;

const READABLE: Readiness = Readiness::READABLE;
const WRITABLE: Readiness = Readiness::WRITABLE;
const PRIORITY: Readiness = Readiness::PRIORITY;
const HANG_UP: Readiness = Readiness::HANG_UP;
const INVALID: Readiness = Readiness::INVALID;

/// What a broken pipe reports to its writer.
const BROKEN: Readiness = WRITABLE.union(HANG_UP);

/// Runs `script` over each model, and names those that it fails over.
#[track_caller]
fn on_all(script: impl Fn(&mut Scene)) {
    let fails = |model: &&'static KqueueModel| {
        let run = AssertUnwindSafe(|| script(&mut Scene::new(model, 64)));
        panic::catch_unwind(run).is_err()
    };
    let failing: Vec<_> = MODELS.iter().filter(fails).map(|model| model.name).collect();
    assert!(failing.is_empty(), "fails over {}", failing.join(", "));
}

/// A selector, and the model that it runs over.
struct Scene {
    model: &'static KqueueModel,
    selector: Box<dyn Selector>,
    events: Events,
}

impl Scene {
    fn new(model: &'static KqueueModel, room: usize) -> Scene {
        let selector = (model.open)().unwrap();
        Scene { model, selector, events: Events::with_capacity(room) }
    }

    fn register(&mut self, fd: impl AsFd, token: u64, interest: Interest, mode: Mode) {
        let result = self.selector.register(fd.as_fd(), Token::from_raw(token), interest, mode);
        result.unwrap_or_else(|error| panic!("{}: register: {error}", self.model.name));
    }

    fn modify(&mut self, fd: impl AsFd, token: u64, interest: Interest, mode: Mode) {
        let result = self.selector.modify(fd.as_fd(), Token::from_raw(token), interest, mode);
        result.unwrap_or_else(|error| panic!("{}: modify: {error}", self.model.name));
    }

    /// Looks once, and returns what was reported of each token.
    fn look(&mut self) -> Vec<(u64, Readiness)> {
        self.selector.select(&mut self.events, Some(Duration::ZERO)).unwrap();
        let reports = self.events.iter().map(|event| (event.token.raw(), event.readiness));
        let mut reports: Vec<_> = reports.collect();
        reports.sort_unstable_by_key(|(token, _)| *token);
        reports
    }

    #[track_caller]
    fn expect(&mut self, expected: &[(u64, Readiness)]) {
        let reports = self.look();
        assert_eq!(reports, expected, "{}", self.model.name);
    }
}

#[test]
fn a_broken_pipe_is_reported_to_a_writer_that_comes_later() {
    on_all(|scene| {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        scene.register(&writer, 1, W, Mode::Level);
        for _ in 0..3 {
            scene.expect(&[(1, BROKEN)]);
        }
        scene.modify(&writer, 2, W, Mode::Edge);
        scene.expect(&[(2, BROKEN)]);
        scene.expect(&[]);
        scene.modify(&writer, 3, W, Mode::OneShot);
        scene.expect(&[(3, BROKEN)]);
        scene.expect(&[]);
        scene.modify(&writer, 4, W, Mode::Level);
        scene.expect(&[(4, BROKEN)]);
        scene.selector.unregister(writer.as_fd()).unwrap();
        scene.expect(&[]);
    });
}

#[test]
fn a_pipe_that_breaks_is_reported_for_as_long_as_it_lasts() {
    on_all(|scene| {
        let (reader, writer) = io::pipe().unwrap();
        scene.register(&writer, 1, R | W, Mode::Level);
        scene.expect(&[(1, WRITABLE)]);
        drop(reader);
        for _ in 0..3 {
            let reports = scene.look();
            let [(1, report)] = reports[..] else { panic!("{}: {reports:?}", scene.model.name) };
            assert!(report.wakes_writer(), "{}: {report:?}", scene.model.name);
        }
    });
}

#[test]
fn a_wait_ends_at_once_while_a_pipe_is_broken() {
    on_all(|scene| {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        scene.register(&writer, 1, W, Mode::Level);
        scene.selector.select(&mut scene.events, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(scene.events.len(), 1, "{}", scene.model.name);
    });
}

#[test]
fn a_broken_pipe_makes_the_selectors_own_descriptor_readable() {
    on_all(|scene| {
        let mut outer = Backend::Poll.open().unwrap();
        let mut events = Events::with_capacity(1);
        let kqueue = scene.selector.pollable_fd().unwrap();
        outer.register(kqueue, Token::from_raw(1), R, Mode::Level).unwrap();
        let mut is_readable = || {
            outer.select(&mut events, Some(Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        let (reader, writer) = io::pipe().unwrap();
        assert!(!is_readable(), "{}", scene.model.name);
        scene.register(&writer, 1, W, Mode::OneShot);
        scene.expect(&[(1, WRITABLE)]);
        drop(reader);
        scene.look();
        assert!(!is_readable(), "{}", scene.model.name);
        scene.modify(&writer, 1, W, Mode::Level);
        for _ in 0..3 {
            assert!(is_readable(), "{}", scene.model.name);
            scene.expect(&[(1, BROKEN)]);
        }
        scene.modify(&writer, 1, W, Mode::OneShot);
        assert!(is_readable(), "{}", scene.model.name);
        scene.expect(&[(1, BROKEN)]);
        scene.look();
        assert!(!is_readable(), "{}", scene.model.name);
    });
}

#[test]
fn broken_pipes_and_others_take_turns_where_there_is_little_room() {
    const N_TURNS: usize = 40;
    for room in [1, 2, 3] {
        on_all(|scene| {
            let mut scene = Scene::new(scene.model, room);
            let (mut kept, mut counts) = (Vec::<OwnedFd>::new(), [0; 6]);
            for token in 0..3 {
                let (reader, writer) = io::pipe().unwrap();
                drop(reader);
                scene.register(&writer, token, W, Mode::Level);
                let (one, other) = UnixStream::pair().unwrap();
                scene.register(&one, 3 + token, W, Mode::Level);
                kept.extend([writer.into(), one.into(), other.into()]);
            }
            for _ in 0..N_TURNS {
                let reports = scene.look();
                assert!(!reports.is_empty() && reports.len() <= room, "{reports:?}");
                reports.iter().for_each(|(token, _)| counts[*token as usize] += 1);
            }
            let least = room * N_TURNS / 12;
            assert!(counts.iter().all(|&n| n >= least), "in {room}: {counts:?}");
        });
    }
}

#[test]
fn a_broken_pipe_that_is_closed_is_not_reported() {
    on_all(|scene| {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        scene.register(&writer, 1, W, Mode::Level);
        scene.expect(&[(1, BROKEN)]);
        drop(writer);
        scene.expect(&[]);
    });
}

#[test]
fn out_of_band_data_of_a_pipe_is_never_reported() {
    on_all(|scene| {
        let (reader, mut writer) = io::pipe().unwrap();
        scene.register(&reader, 1, R, Mode::Level);
        if !scene.model.system.has_priority {
            let token = Token::from_raw(1);
            let result = scene.selector.modify(reader.as_fd(), token, R | P, Mode::Level);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Unsupported);
            return;
        }
        scene.modify(&reader, 1, R | P, Mode::Level);
        scene.expect(&[]);
        writer.write_all(b"x").unwrap();
        scene.expect(&[(1, READABLE)]);
        scene.modify(&reader, 2, P, Mode::Level);
        scene.expect(&[]);
        // Those who come with that interest are accepted, as by poll.
        scene.register(&writer, 3, P, Mode::OneShot);
        scene.expect(&[]);
    });
}

#[test]
fn only_the_mark_is_out_of_band() {
    on_all(|scene| {
        if !scene.model.system.has_priority {
            return;
        }
        for mode in [Mode::Level, Mode::Edge, Mode::OneShot] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (one, _) = listener.accept().unwrap();
            scene.register(&one, 1, P, mode);
            other.write_all(b"plain").unwrap();
            scene.expect(&[]);
            socket2::SockRef::from(&other).send_out_of_band(b"!").unwrap();
            scene.expect(&[(1, PRIORITY)]);
            for _ in 0..3 {
                let expected: &[_] = if mode == Mode::Level { &[(1, PRIORITY)] } else { &[] };
                scene.expect(expected);
            }
            drop(other);
            scene.selector.unregister(one.as_fd()).unwrap();
        }
    });
}

#[test]
fn an_error_does_not_hide_what_is_ready() {
    on_all(|scene| {
        let (three, nine) = UnixStream::pair().unwrap();
        let (six, one) = UnixStream::pair().unwrap();
        scene.register(&nine, 9, R | W, Mode::Level);
        scene.register(&one, 1, W, Mode::Level);
        scene.modify(&nine, 9, R | W, Mode::OneShot);
        drop(nine);
        let reports = scene.look();
        let is_invalid = |report: &(u64, Readiness)| *report == (9, INVALID);
        assert!(reports.contains(&(1, WRITABLE)), "{}: {reports:?}", scene.model.name);
        assert!(reports.iter().filter(|report| report.0 == 9).all(is_invalid), "{reports:?}");
        scene.expect(&[(1, WRITABLE)]);
        drop((three, six));
    });
}
