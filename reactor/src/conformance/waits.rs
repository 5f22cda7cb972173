//! The duration of a wait, and what ends it.

use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{A, LIMIT, Open, QUIET, READ, Scene, WRITE, pair};
use crate::{Mode, Readiness, WaitEnd};

pub(super) fn a_wait_without_descriptors_lasts_until_its_timeout(open: Open<'_>) {
    Scene::new(open).expect_quiet();
}

pub(super) fn a_wait_is_never_early(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    scene.register(&end, A, READ, Mode::Level);
    let timeouts = [1, 999, 1_000, 50_000, 999_999, 1_000_000, 1_000_001, 1_500_000, 7_300_000];
    for timeout in timeouts.map(Duration::from_nanos) {
        for _ in 0..5 {
            let begin = Instant::now();
            let events = scene.select(Some(timeout));
            let waited = begin.elapsed();
            assert_eq!(events, []);
            assert!(waited >= timeout, "{timeout:?} took {waited:?}");
            assert!(waited < timeout + LIMIT, "{timeout:?} took {waited:?}");
        }
    }
}

pub(super) fn a_wait_of_zero_does_not_block(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (end, _other) = pair();
    scene.register(&end, A, READ, Mode::Level);
    let begin = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(scene.poll(), []);
    }
    // A millisecond each would be what a timeout that is rounded up from zero costs.
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
}

pub(super) fn a_short_wait_does_not_turn_into_many(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let before = scene.selector.system_calls().waits;
    for _ in 0..20 {
        scene.select(Some(Duration::from_micros(300)));
    }
    let n_waits = scene.selector.system_calls().waits - before;
    // One each, or two where a fine timer had to be tried first.
    assert!(n_waits <= 40, "{n_waits} waits in the kernel");
}

pub(super) fn a_huge_timeout_waits_until_something_happens(open: Open<'_>) {
    let huge = [
        None,
        Some(Duration::MAX),
        Some(Duration::from_secs(u64::MAX)),
        Some(Duration::from_secs(584 * 365 * 86_400)),
        Some(Duration::from_secs(100_000_001)),
        Some(Duration::from_millis(i32::MAX as u64 + 1)),
        Some(Duration::from_secs(86_401)),
    ];
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, A, READ, Mode::OneShot);
    for timeout in huge {
        let begin = Instant::now();
        let events = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(QUIET);
                other.write_all(b"x").unwrap();
            });
            scene.select(timeout)
        });
        assert_eq!(events.len(), 1, "{timeout:?}");
        assert!(begin.elapsed() >= QUIET, "{timeout:?} ended early");
        scene.modify(&one, A, READ, Mode::OneShot);
        std::io::Read::read(&mut &one, &mut [0; 8]).unwrap();
        assert_eq!(scene.poll(), []);
    }
}

pub(super) fn a_notification_before_the_wait_ends_it(open: Open<'_>) {
    let mut scene = Scene::new(open);
    scene.selector.notifier().unwrap().notify().unwrap();
    assert_eq!(scene.select(None), []);
    scene.expect_quiet();
}

pub(super) fn a_notification_during_the_wait_ends_it(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let notifier = scene.selector.notifier().unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            let notifier = &notifier;
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(2));
                notifier.notify().unwrap();
            });
            assert_eq!(scene.select(None), []);
        });
    }
    scene.expect_quiet();
}

pub(super) fn a_notification_after_the_wait_ends_the_next_one(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let notifier = scene.selector.notifier().unwrap();
    notifier.notify().unwrap();
    scene.select(None);
    notifier.notify().unwrap();
    scene.select(None);
    scene.expect_quiet();
}

pub(super) fn many_notifications_end_one_wait(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let notifier = scene.selector.notifier().unwrap();
    for _ in 0..100_000 {
        notifier.notify().unwrap();
    }
    scene.select(None);
    scene.expect_quiet();
}

pub(super) fn ten_threads_that_notify_at_once_end_the_wait(open: Open<'_>) {
    const N_THREADS: usize = 10;
    const N_ROUNDS: usize = 200;
    let mut scene = Scene::new(open);
    let notifier = scene.selector.notifier().unwrap();
    // Each round, every thread notifies after it has left its mark; a wait that ends after the
    // last notification must come, or the select below would never return.
    let marks: Vec<AtomicBool> = (0..N_THREADS).map(|_| AtomicBool::new(false)).collect();
    let barrier = Barrier::new(N_THREADS + 1);
    let n_wakeups = thread::scope(|scope| {
        for mark in &marks {
            let (notifier, barrier) = (notifier.clone(), &barrier);
            scope.spawn(move || {
                for _ in 0..N_ROUNDS {
                    barrier.wait();
                    mark.store(true, Ordering::Relaxed);
                    notifier.notify().unwrap();
                }
            });
        }
        let mut n_wakeups = 0;
        for _ in 0..N_ROUNDS {
            barrier.wait();
            let mut n_seen = 0;
            while n_seen < N_THREADS {
                assert_eq!(scene.select(None), []);
                n_wakeups += 1;
                n_seen += marks.iter().filter(|mark| mark.swap(false, Ordering::Relaxed)).count();
            }
        }
        n_wakeups
    });
    assert!(n_wakeups <= N_THREADS * N_ROUNDS, "{n_wakeups} wake-ups");
    // The last mark may have been seen before its notification came.
    scene.poll();
    scene.expect_quiet();
}

pub(super) fn a_notification_hides_no_event(open: Open<'_>) {
    for room in [1, 2, 64] {
        let mut scene = Scene::with_capacity(open, room);
        let (end, _other) = pair();
        scene.register(&end, A, WRITE, Mode::OneShot);
        scene.selector.notifier().unwrap().notify().unwrap();
        let mut events = scene.select(None);
        if events.is_empty() {
            events = scene.select(Some(LIMIT));
        }
        assert_eq!(super::readiness_of(&events, A), Some(Readiness::WRITABLE));
        scene.poll();
        scene.expect_quiet();
    }
}

pub(super) fn an_empty_wait_reports_what_ended_it(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let expect = |scene: &mut Scene, timeout, end| {
        scene.select(timeout);
        assert_eq!(scene.events.wait_end(), end, "{timeout:?}");
    };
    let short = Duration::from_millis(2);
    for timeout in [Duration::ZERO, short] {
        expect(&mut scene, Some(timeout), WaitEnd::Timeout);
    }
    let notifier = scene.selector.notifier().unwrap();
    for timeout in [None, Some(Duration::ZERO), Some(LIMIT)] {
        notifier.notify().unwrap();
        expect(&mut scene, timeout, WaitEnd::Notification);
        expect(&mut scene, Some(short), WaitEnd::Timeout);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(short);
            notifier.notify().unwrap();
        });
        expect(&mut scene, None, WaitEnd::Notification);
    });
    let (end, _other) = pair();
    scene.register(&end, A, WRITE, Mode::OneShot);
    expect(&mut scene, Some(LIMIT), WaitEnd::Event);
    expect(&mut scene, Some(short), WaitEnd::Timeout);
}

pub(super) fn a_notifier_outlives_its_selector(open: Open<'_>) {
    let scene = Scene::new(open);
    let notifier = scene.selector.notifier().unwrap();
    drop(scene);
    // There is no selector to end the wait of; an error is as good as none.
    let _ = notifier.notify();
    let _ = notifier.clone().notify();
}

pub(super) fn a_selector_works_on_another_thread(open: Open<'_>) {
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, A, READ, Mode::Level);
    scene.poll();
    let notifier = scene.selector.notifier().unwrap();
    let mut scene = thread::scope(|scope| {
        let moved = scope.spawn(move || {
            assert_eq!(scene.select(None), []);
            scene
        });
        notifier.notify().unwrap();
        moved.join().unwrap()
    });
    other.write_all(b"x").unwrap();
    scene.expect(A, Readiness::READABLE);
}
