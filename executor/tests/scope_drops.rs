//! Aim: scopes, groups and joined futures leave nothing behind, whichever poll they are dropped after.

mod util;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use polyloop_executor::{
    CancelScope, TaskGroup, current_effective_deadline, gather, join, metrics, race_all, shielded,
    sleep, yield_now,
};

use util::{group_with_timeout, run_virtual};

const SECOND: Duration = Duration::from_secs(1);

/// The work of every body and child: a shielded section and an unshielded wait.
async fn member() -> Result<(), ()> {
    shielded(sleep(2 * SECOND)).await;
    sleep(SECOND).await;
    Ok(())
}

async fn group() -> Result<(), ()> {
    let group = TaskGroup::scope(async |group: &TaskGroup<()>| {
        for _ in 0..3 {
            group.spawn(member());
        }
        yield_now().await;
        member().await
    });
    group.await.map_err(drop)
}

/// Awaits `future` and drops it after that many polls. Returns `true` if it completed before.
async fn drop_after(n_polls: u32, future: impl Future<Output = ()>) -> bool {
    let mut future = Box::pin(future);
    let mut n_left = n_polls;
    poll_fn(|cx| {
        let is_done = n_left > 0 && future.as_mut().poll(cx).is_ready();
        n_left = n_left.saturating_sub(1);
        if is_done || n_left == 0 { Poll::Ready(is_done) } else { Poll::Pending }
    })
    .await
}

/// Drops the future of `work` before its first poll, after its first, second, ... until it completes.
#[track_caller]
fn assert_nothing_stays<F: Future<Output = ()>>(work: impl Fn() -> F) {
    for n_polls in 0.. {
        let is_done = run_virtual(async {
            let is_done = drop_after(n_polls, work()).await;
            let left = (metrics().tasks, metrics().timers, current_effective_deadline());
            assert_eq!(left, (0, 0, None), "dropped after poll {n_polls}");
            is_done
        });
        if is_done {
            assert!(n_polls > 1, "it never waited");
            return;
        }
    }
}

#[test]
fn a_timeout_with_a_section() {
    assert_nothing_stays(async || {
        let limited = CancelScope::new().timeout(SECOND).run(async |_| member().await);
        assert!(limited.await.is_err());
    });
}

#[test]
fn a_cancel_scope_around_a_group() {
    assert_nothing_stays(async || {
        let outcome = CancelScope::new().run(async |scope| {
            scope.set_timeout(SECOND);
            group().await
        });
        assert!(outcome.await.is_err());
    });
}

#[test]
fn a_group() {
    assert_nothing_stays(async || group().await.unwrap());
}

#[test]
fn a_group_with_a_deadline_around_a_group() {
    assert_nothing_stays(async || {
        let outer = group_with_timeout(SECOND, async |outer: &TaskGroup<()>| {
            outer.spawn(group());
            member().await
        });
        assert!(outer.await.unwrap_err().is_elapsed());
    });
}

#[test]
fn gathered_sections() {
    assert_nothing_stays(async || {
        let gathering = CancelScope::new()
            .timeout(SECOND)
            .run(async |_| gather((0..3).map(|_| member())).await);
        assert!(gathering.await.is_err());
    });
}

#[test]
fn joined_futures() {
    assert_nothing_stays(async || {
        let (first, (), last) = join!(
            member(),
            sleep(SECOND),
            CancelScope::new().timeout(SECOND).run(async |_| member().await)
        );
        assert!(first.is_ok() && last.is_err());
    });
}

#[test]
fn raced_futures() {
    assert_nothing_stays(async || {
        let sleeps: (_, Pin<&mut _>) = (pin!(shielded(sleep(SECOND))), pin!(sleep(2 * SECOND)));
        let (winner, ()) = race_all(&mut [sleeps.0, sleeps.1]).await;
        assert_eq!(winner, 0);
    });
}
