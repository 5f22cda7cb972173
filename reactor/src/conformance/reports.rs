//! What is reported, how often, and to whom.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

use super::{A, B, BOTH, Open, READ, Scene, WRITE, pair, readiness_of, tcp_pair};
use crate::{Interest, Mode, Readiness, Token};

pub(super) fn a_level_is_reported_for_as_long_as_it_lasts(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (mut one, mut other) = pair();
    scene.register(&one, A, READ, Mode::Level);
    scene.expect_quiet();
    other.write_all(b"two").unwrap();
    // More reports than any that a backend takes on trust.
    for _ in 0..500 {
        assert_eq!(readiness_of(&scene.wait(), A), Some(Readiness::READABLE));
    }
    one.read_exact(&mut [0; 2]).unwrap();
    scene.expect(A, Readiness::READABLE);
    one.read_exact(&mut [0; 1]).unwrap();
    scene.expect_quiet();
}

pub(super) fn reports_are_masked_by_the_interest(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    other.write_all(b"x").unwrap();
    scene.register(&one, A, WRITE, Mode::Level);
    scene.expect(A, Readiness::WRITABLE);
    scene.modify(&one, A, READ, Mode::Level);
    scene.expect(A, Readiness::READABLE);
}

pub(super) fn a_descriptor_ready_both_ways_is_one_event(open: Open<'_>) {
    for mode in [Mode::Level, Mode::OneShot, Mode::Edge] {
        let mut scene = Scene::new(open);
        if !scene.selector.supports(mode) {
            continue;
        }
        let (one, mut other) = pair();
        other.write_all(b"x").unwrap();
        scene.register(&one, A, BOTH, mode);
        let events = scene.wait();
        assert_eq!(events.len(), 1, "{mode:?}: {events:?}");
        assert_eq!(readiness_of(&events, A), Some(Readiness::READABLE | Readiness::WRITABLE));
    }
}

pub(super) fn a_full_peer_is_not_writable_until_it_reads(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (mut one, mut other) = pair();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    scene.register(&one, A, WRITE, Mode::Level);
    while one.write(&[7; 4_096]).is_ok() {}
    scene.expect_quiet();
    while other.read(&mut [0; 65_536]).is_ok() {}
    scene.expect(A, Readiness::WRITABLE);
}

pub(super) fn a_one_shot_is_reported_once_until_modified(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, A, READ, Mode::OneShot);
    scene.expect_quiet();
    other.write_all(b"x").unwrap();
    scene.expect(A, Readiness::READABLE);
    scene.expect_quiet();
    other.write_all(b"y").unwrap();
    scene.expect_quiet();
    // The state is checked again when it is armed.
    scene.modify(&one, B, READ, Mode::OneShot);
    scene.expect(B, Readiness::READABLE);
    scene.expect_quiet();
}

pub(super) fn a_one_shot_disarms_both_directions(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, A, BOTH, Mode::OneShot);
    scene.expect(A, Readiness::WRITABLE);
    other.write_all(b"x").unwrap();
    scene.expect_quiet();
    scene.modify(&one, A, READ, Mode::OneShot);
    scene.expect(A, Readiness::READABLE);
    scene.expect_quiet();
}

pub(super) fn a_one_shot_that_fired_does_not_report_that_the_peer_closed(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, other) = pair();
    scene.register(&one, A, BOTH, Mode::OneShot);
    scene.expect(A, Readiness::WRITABLE);
    drop(other);
    scene.expect_quiet();
    scene.modify(&one, A, READ, Mode::OneShot);
    assert!(readiness_of(&scene.wait(), A).unwrap().wakes_reader());
    scene.expect_quiet();
}

pub(super) fn a_one_shot_that_fired_can_be_unregistered_and_registered_again(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, _other) = pair();
    for mode in [Mode::OneShot, Mode::Level, Mode::OneShot] {
        scene.register(&one, A, WRITE, mode);
        scene.expect(A, Readiness::WRITABLE);
        scene.unregister(&one);
        scene.expect_quiet();
    }
}

pub(super) fn a_mode_can_be_changed(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    other.write_all(b"x").unwrap();
    scene.register(&one, A, READ, Mode::Level);
    scene.expect(A, Readiness::READABLE);
    let modes = [Mode::OneShot, Mode::Edge, Mode::Level, Mode::Edge, Mode::OneShot, Mode::Level];
    for mode in modes {
        if !scene.selector.supports(mode) {
            continue;
        }
        scene.modify(&one, A, READ, mode);
        assert_eq!(readiness_of(&scene.wait(), A), Some(Readiness::READABLE), "{mode:?}");
        if mode == Mode::Level {
            scene.expect(A, Readiness::READABLE);
        } else {
            scene.expect_quiet();
        }
    }
}

pub(super) fn an_edge_is_reported_when_more_arrives(open: Open<'_>) {
    let mut scene = Scene::new(open);
    if !scene.selector.supports(Mode::Edge) {
        return;
    }
    let (mut one, mut other) = pair();
    scene.register(&one, A, READ, Mode::Edge);
    scene.expect_quiet();
    for _ in 0..3 {
        other.write_all(b"xy").unwrap();
        scene.expect(A, Readiness::READABLE);
        scene.expect_quiet();
        // A partial read is no new edge.
        one.read_exact(&mut [0; 1]).unwrap();
        scene.expect_quiet();
    }
}

pub(super) fn an_edge_from_before_the_registration_is_reported(open: Open<'_>) {
    let mut scene = Scene::new(open);
    if !scene.selector.supports(Mode::Edge) {
        return;
    }
    let (one, mut other) = pair();
    other.write_all(b"x").unwrap();
    scene.register(&one, A, BOTH, Mode::Edge);
    scene.expect(A, Readiness::READABLE | Readiness::WRITABLE);
    scene.expect_quiet();
    // Modifying asks for the present state again.
    scene.modify(&one, B, BOTH, Mode::Edge);
    scene.expect(B, Readiness::READABLE | Readiness::WRITABLE);
    scene.expect_quiet();
}

pub(super) fn an_edge_reports_the_end_of_the_stream(open: Open<'_>) {
    let mut scene = Scene::new(open);
    if !scene.selector.supports(Mode::Edge) {
        return;
    }
    let (mut one, mut other) = tcp_pair();
    scene.register(&one, A, READ, Mode::Edge);
    other.write_all(b"xyz").unwrap();
    drop(other);
    // Data and end may come as one edge or two; afterwards there are three bytes and the end.
    while !readiness_of(&scene.wait(), A).unwrap().is_read_closed() {}
    let mut bytes = Vec::new();
    one.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"xyz");
    scene.expect_quiet();
}

/// What follows some data on a stream.
#[derive(Clone, Copy, Debug)]
enum Next {
    Data,
    End,
    Urgent,
    Reset,
}

/// What [`Selector::short_read_is_empty`](crate::Selector::short_read_is_empty) promises.
pub(super) fn what_is_new_after_a_short_read_is_an_edge(open: Open<'_>) {
    let selector = open().expect("the selector opens");
    if !selector.supports(Mode::Edge) || !selector.short_read_is_empty() {
        return;
    }
    // Together with the data, after it was reported, or after it was read.
    for (next, moment) in [
        (Next::End, 0),
        (Next::Urgent, 0),
        (Next::End, 1),
        (Next::Urgent, 1),
        (Next::Data, 2),
        (Next::End, 2),
        (Next::Urgent, 2),
        (Next::Reset, 2),
    ] {
        let mut scene = Scene::new(open);
        let (mut one, other) = tcp_pair();
        other.set_nodelay(true).unwrap();
        let mut other = Some(other);
        scene.register(&one, A, BOTH | Interest::PRIORITY, Mode::Edge);
        scene.poll();
        let mut peer = other.as_ref().unwrap();
        peer.write_all(b"some").unwrap();

        let mut reported = Readiness::NONE;
        for now in 0..3 {
            let mut peer = other.as_ref();
            if now == moment {
                match next {
                    Next::Data => peer.as_mut().unwrap().write_all(b"more").unwrap(),
                    Next::Urgent => {
                        socket2::SockRef::from(peer.unwrap())
                            .send_out_of_band(b"!")
                            .map(drop)
                            .unwrap();
                    }
                    Next::End => drop(other.take()),
                    Next::Reset => {
                        let peer = other.take().unwrap();
                        let at_once = Some(std::time::Duration::ZERO);
                        socket2::SockRef::from(&peer).set_linger(at_once).unwrap();
                    }
                }
            }
            match now {
                0 => {
                    while !reported.is_readable() {
                        reported |= readiness_of(&scene.wait(), A).unwrap_or(Readiness::NONE);
                    }
                }
                1 => assert_eq!(one.read(&mut [0; 64]).unwrap(), 4, "a short read"),
                _ => {}
            }
        }
        let expected = match next {
            Next::Data => {
                // That there was data before is no news.
                reported = Readiness::NONE;
                Readiness::READABLE
            }
            Next::End => Readiness::READ_CLOSED,
            Next::Urgent => Readiness::PRIORITY,
            Next::Reset => Readiness::ERROR,
        };
        while !reported.contains(expected) {
            reported |= readiness_of(&scene.wait(), A).unwrap_or(Readiness::NONE);
        }
    }
}

pub(super) fn more_ready_descriptors_than_fit_are_all_served(open: Open<'_>) {
    const N_PAIRS: usize = 200;
    const N_EVENTS: usize = 7;
    let mut scene = Scene::with_capacity(open, N_EVENTS);
    let pairs: Vec<_> = (0..N_PAIRS).map(|_| pair()).collect();
    for (index, (end, _)) in pairs.iter().enumerate() {
        scene.register(end, Token::from_raw(index as u64), WRITE, Mode::Level);
    }
    let mut n_reports = HashMap::new();
    for _ in 0..N_PAIRS.div_ceil(N_EVENTS) * 3 {
        let events = scene.wait();
        assert!(events.len() <= N_EVENTS);
        for event in events {
            *n_reports.entry(event.token).or_insert(0) += 1;
        }
    }
    assert_eq!(n_reports.len(), N_PAIRS, "some were starved");
}

pub(super) fn no_event_is_lost_that_did_not_fit(open: Open<'_>) {
    const N_PAIRS: u64 = 100;
    for mode in [Mode::OneShot, Mode::Edge] {
        let mut scene = Scene::with_capacity(open, 3);
        if !scene.selector.supports(mode) {
            continue;
        }
        let pairs: Vec<(UnixStream, UnixStream)> = (0..N_PAIRS).map(|_| pair()).collect();
        for ((end, _), index) in pairs.iter().zip(0..) {
            scene.register(end, Token::from_raw(index), WRITE, mode);
        }
        let mut tokens = Vec::new();
        while (tokens.len() as u64) < N_PAIRS {
            tokens.extend(scene.wait().iter().map(|event| event.token.raw()));
        }
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..N_PAIRS), "{mode:?}: one was lost or reported twice");
        scene.expect_quiet();
    }
}

pub(super) fn two_selectors_can_watch_one_descriptor(open: Open<'_>) {
    let (mut first, mut second) = (Scene::new(open), Scene::new(open));
    let (one, mut other) = pair();
    first.register(&one, A, READ, Mode::Level);
    second.register(&one, B, READ, Mode::Level);
    other.write_all(b"x").unwrap();
    first.expect(A, Readiness::READABLE);
    second.expect(B, Readiness::READABLE);
    first.unregister(&one);
    first.expect_quiet();
    second.expect(B, Readiness::READABLE);
}

pub(super) fn a_duplicate_is_a_separate_registration(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    let duplicate = one.try_clone().unwrap();
    scene.register(&one, A, READ, Mode::Level);
    scene.register(&duplicate, B, READ, Mode::Level);
    other.write_all(b"x").unwrap();
    let events = scene.wait();
    assert!(readiness_of(&events, A).is_some() && readiness_of(&events, B).is_some(), "{events:?}");
    scene.unregister(&one);
    scene.expect(B, Readiness::READABLE);
}

pub(super) fn datagrams_are_readable_until_the_last_is_read(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    scene.register(&receiver, A, READ, Mode::Level);
    scene.expect_quiet();
    for _ in 0..2 {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    scene.expect(A, Readiness::READABLE);
    receiver.recv(&mut [0; 8]).unwrap();
    scene.expect(A, Readiness::READABLE);
    receiver.recv(&mut [0; 8]).unwrap();
    scene.expect_quiet();
}

pub(super) fn out_of_band_data_is_priority_or_not_supported(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, other) = tcp_pair();
    let urgent = Interest::PRIORITY;
    use std::os::fd::AsFd;
    if let Err(error) = scene.selector.register(one.as_fd(), A, READ | urgent, Mode::Level) {
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert_eq!(scene.selector.registrations(), []);
        return;
    }
    scene.expect_quiet();
    socket2::SockRef::from(&other).send_out_of_band(b"!").unwrap();
    scene.expect(A, Readiness::PRIORITY);
    // It is not reported without being requested.
    scene.modify(&one, A, READ, Mode::Level);
    scene.expect_quiet();
    scene.modify(&one, A, urgent, Mode::OneShot);
    scene.expect(A, Readiness::PRIORITY);
    scene.expect_quiet();
}

pub(super) fn hundreds_of_descriptors_are_distinguished(open: Open<'_>) {
    // One tenth are ready, in a set that is larger than a word of any bit set.
    const N_PAIRS: usize = 300;
    let mut scene = Scene::with_capacity(open, N_PAIRS);
    let mut pairs: Vec<_> = (0..N_PAIRS).map(|_| pair()).collect();
    for (index, (end, _)) in pairs.iter().enumerate() {
        scene.register(end, Token::from_raw(index as u64), READ, Mode::Level);
    }
    for (_, other) in pairs.iter_mut().step_by(10) {
        other.write_all(b"x").unwrap();
    }
    let mut tokens: Vec<u64> = scene.wait().iter().map(|event| event.token.raw()).collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq((0..N_PAIRS as u64).step_by(10)));
    // Unregistering from the middle does not affect the reports of others.
    for (index, (end, _)) in pairs.iter().enumerate() {
        if index % 20 == 0 {
            scene.unregister(end);
        }
    }
    let mut tokens: Vec<u64> = scene.wait().iter().map(|event| event.token.raw()).collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq((10..N_PAIRS as u64).step_by(20)));
}
