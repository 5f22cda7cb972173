//! Aim: a task that always has work does not keep others from being served, within documented bounds.

mod util;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Builder, Handle, metrics, poll_proceed, release_source, run, sleep, spawn, with_reactor,
    yield_now,
};
use polyloop_reactor::{Backend, Direction, Token, Watched};

/// The documented bound: descriptors, timers and messages are checked after at most this many polls.
const POLLS_PER_CHECK: u64 = 128;

struct Stream(UnixStream);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Stream {
    fn is_latest(&self, _token: Token) -> bool {
        true
    }
}

/// Waits until one byte can be read, and reads it.
async fn read_byte(stream: &Arc<Stream>, token: Token) -> u8 {
    poll_fn(|cx| {
        let mut byte = [0];
        match (&stream.0).read(&mut byte) {
            Ok(1) => return Poll::Ready(byte[0]),
            Ok(_) => panic!("the peer has closed"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        let mut waker = Some(cx.waker().clone());
        with_reactor(|reactor| {
            reactor.clear_ready(token, Direction::Read);
            reactor.wait(token, Direction::Read, None, &mut waker).unwrap();
        })
        .unwrap();
        Poll::Pending
    })
    .await
}

#[test]
fn a_descriptor_is_served_while_tasks_yield_indefinitely() {
    const N_BUSY: u64 = 3;
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        runtime
            .block_on(async {
                let (near, mut far) = UnixStream::pair().unwrap();
                near.set_nonblocking(true).unwrap();
                let stream = Arc::new(Stream(near));
                let watched: Arc<dyn Watched> = stream.clone();
                let token = with_reactor(|reactor| reactor.register(watched)).unwrap().unwrap();
                for _ in 0..N_BUSY {
                    drop(spawn(async {
                        loop {
                            yield_now().await;
                        }
                    }));
                }
                for i in 0..100 {
                    let (sent, before) = (Rc::new(Cell::new(0)), metrics().polls);
                    let sent_at = sent.clone();
                    let mut send = Some(move || sent_at.set(metrics().polls));
                    let mut reading = std::pin::pin!(read_byte(&stream, token));
                    // Polled once, so that it waits; then data arrives.
                    let byte = poll_fn(|cx| {
                        let polled = reading.as_mut().poll(cx);
                        if let Some(note) = send.take() {
                            far.write_all(&[i]).unwrap();
                            note();
                        }
                        polled
                    })
                    .await;
                    assert_eq!(byte, i);
                    assert!(sent.get() >= before);
                    let waited = metrics().polls - sent.get();
                    let bound = POLLS_PER_CHECK + 2 * (N_BUSY + 1);
                    assert!(waited <= bound, "{backend}: served after {waited} polls");
                }
                release_source(token);
            })
            .unwrap();
    }
}

#[test]
fn a_timer_is_served_while_a_task_yields_indefinitely() {
    run(async {
        let latest = Rc::new(Cell::new(0));
        let busy = latest.clone();
        drop(spawn(async move {
            loop {
                busy.set(metrics().polls);
                yield_now().await;
            }
        }));
        for _ in 0..20 {
            let start = Instant::now();
            sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_millis(500));
        }
        assert!(latest.get() > 0);
    })
    .unwrap();
}

#[test]
fn a_due_timer_waits_for_at_most_the_documented_number_of_polls() {
    util::run_virtual(async {
        // Virtual time stands still while tasks are ready, so a deadline of now is due at once.
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        for _ in 0..100 {
            let before = metrics().polls;
            sleep(Duration::ZERO).await;
            let waited = metrics().polls - before;
            assert!(waited <= POLLS_PER_CHECK + 4, "{waited} polls");
        }
    });
}

#[test]
fn messages_from_other_threads_are_read_while_a_task_yields_indefinitely() {
    run(async {
        drop(spawn(async {
            loop {
                yield_now().await;
            }
        }));
        let handle = Handle::current().unwrap();
        let served = Arc::new(AtomicBool::new(false));
        let serve = Arc::clone(&served);
        let far = thread::spawn(move || {
            for _ in 0..100 {
                util::block_on_elsewhere(handle.spawn(async {})).unwrap();
            }
            serve.store(true, Ordering::SeqCst);
        });
        while !served.load(Ordering::SeqCst) {
            yield_now().await;
        }
        far.join().unwrap();
    })
    .unwrap();
}

#[test]
fn a_task_that_is_always_ready_spends_its_budget_and_yields() {
    run(async {
        let n_greedy = Rc::new(Cell::new(0_u32));
        let count = n_greedy.clone();
        let greedy = spawn(poll_fn(move |cx| {
            // A leaf future that is always ready, in an infinite loop.
            while poll_proceed(cx).is_ready() {
                count.set(count.get() + 1);
            }
            if count.get() < 1_000_000 { Poll::Pending } else { Poll::Ready(()) }
        }));
        let mut before = 0;
        for _ in 0..1_000 {
            yield_now().await;
            let now = n_greedy.get();
            assert!(now - before <= 128, "{} operations in one poll", now - before);
            before = now;
        }
        assert!(before >= 100_000);
        greedy.abort();
    })
    .unwrap();
}

#[test]
fn a_task_that_wakes_itself_runs_once_in_each_round_of_a_thousand() {
    run(async {
        let n_rounds = Rc::new(Cell::new(0_u64));
        let n_polls = Rc::new(Cell::new(0_u64));
        let count = n_polls.clone();
        drop(spawn(async move {
            loop {
                count.set(count.get() + 1);
                yield_now().await;
            }
        }));
        let others: Vec<_> = (0..999)
            .map(|i| {
                let n_rounds = n_rounds.clone();
                spawn(async move {
                    for _ in 0..100 {
                        n_rounds.set(n_rounds.get() + u64::from(i == 0));
                        yield_now().await;
                    }
                })
            })
            .collect();
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(n_rounds.get(), 100);
        // A few more for the joins, whose budget makes the main future yield.
        assert!((100..=115).contains(&n_polls.get()), "{} polls", n_polls.get());
    })
    .unwrap();
}
