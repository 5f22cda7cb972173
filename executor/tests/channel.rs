//! Aim: a channel keeps order and bound, loses no message, and reports when it is closed.

mod util;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use polyloop_executor::channel::{
    self, Receiver, SendError, Sharing, TryRecvError, TrySendError, local,
};
use polyloop_executor::{run, spawn, timeout, yield_now};

use util::{ForeignWaker, OnDrop, Trace, block_on_elsewhere, with_watchdog};

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Makes a test of each body for each kind of channel, under the module name `chan`.
macro_rules! both {
    ($($name:ident = $body:expr;)*) => {
        mod between_threads {
            use super::*;
            use polyloop_executor::channel as chan;
            $(#[test] fn $name() { run($body).unwrap(); })*
        }
        mod on_one_thread {
            use super::*;
            use polyloop_executor::channel::local as chan;
            $(#[test] fn $name() { run($body).unwrap(); })*
        }
    };
}

both! {
    messages_arrive_in_the_order_of_sending = async {
        let (sender, mut receiver) = chan::unbounded();
        let sending = spawn(async move {
            for i in 0..1_000 {
                sender.send(i).unwrap();
                if i % 7 == 0 {
                    yield_now().await;
                }
            }
        });
        for i in 0..1_000 {
            assert_eq!(receiver.recv().await, Some(i));
        }
        assert_eq!(receiver.recv().await, None);
        sending.await.unwrap();
    };

    a_bound_is_never_exceeded = async {
        let (sender, mut receiver) = chan::bounded(3);
        assert_eq!((sender.capacity(), sender.max_capacity()), (3, 3));
        for i in 0..3 {
            sender.try_send(i).unwrap();
        }
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        assert_eq!((receiver.len(), sender.capacity()), (3, 0));
        assert_eq!(receiver.try_recv(), Ok(0));
        sender.try_send(3).unwrap();
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        for i in 1..4 {
            assert_eq!(receiver.recv().await, Some(i));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    };

    waiting_senders_are_served_in_order = async {
        let (sender, mut receiver) = chan::bounded(1);
        sender.send(0).await.unwrap();
        let sending: Vec<_> = (1..100)
            .map(|i| {
                let sender = sender.clone();
                spawn(async move { sender.send(i).await.unwrap() })
            })
            .collect();
        yield_now().await;
        for i in 0..100 {
            // `try_send` does not take capacity that is granted to waiting senders.
            assert!(i == 99 || sender.try_send(1_000).is_err());
            assert_eq!(receiver.recv().await, Some(i));
            yield_now().await;
        }
        for task in sending {
            task.await.unwrap();
        }
    };

    a_dropped_receiver_returns_messages_to_senders = async {
        let (sender, receiver) = chan::bounded(1);
        sender.send(1).await.unwrap();
        let mut waiting = pin!(sender.send(2));
        assert!(poll_once(waiting.as_mut()).await.is_pending());
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(waiting.await, Err(SendError(2)));
        assert_eq!(sender.send(3).await, Err(SendError(3)));
        assert_eq!(sender.try_send(4), Err(TrySendError::Closed(4)));
        let (sender, receiver) = chan::unbounded();
        drop(receiver);
        assert_eq!(sender.send(5), Err(SendError(5)));
    };

    a_closed_channel_delivers_what_was_sent_and_what_has_a_permit = async {
        let (sender, mut receiver) = chan::bounded(3);
        sender.send(1).await.unwrap();
        let permit = sender.reserve().await.unwrap();
        let unused = sender.reserve().await.unwrap();
        receiver.close();
        assert!(sender.reserve().await.is_err());
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        permit.send(2);
        assert_eq!(receiver.recv().await, Some(2));
        let mut end = pin!(receiver.recv());
        assert!(poll_once(end.as_mut()).await.is_pending());
        drop(unused);
        assert_eq!(end.await, None);
    };

    dropping_the_last_sender_wakes_the_receiver = async {
        let (sender, mut receiver) = chan::unbounded::<()>();
        let second = sender.clone();
        let receiving = spawn(async move { receiver.recv().await });
        yield_now().await;
        drop(sender);
        yield_now().await;
        drop(second);
        assert_eq!(receiving.await.unwrap(), None);
    };

    a_recv_dropped_at_any_poll_loses_nothing = async {
        let (sender, mut receiver) = chan::bounded(2);
        let sending = spawn(async move {
            for i in 0..200 {
                sender.send(i).await.unwrap();
                yield_now().await;
            }
        });
        let mut next = 0;
        while next < 200 {
            let polled = poll_once(pin!(receiver.recv())).await;
            if let Poll::Ready(message) = polled {
                assert_eq!(message, Some(next));
                next += 1;
            }
            yield_now().await;
        }
        sending.await.unwrap();
    };

    a_dropped_reserve_releases_its_capacity = async {
        let (sender, mut receiver) = chan::bounded(1);
        sender.send(0).await.unwrap();
        let mut first = Box::pin(sender.reserve());
        let mut second = Box::pin(sender.reserve());
        let mut third = Box::pin(sender.reserve());
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(poll_once(waiting.as_mut()).await.is_pending());
        }
        // The first is granted capacity, the second is dropped, and the first is never polled.
        assert_eq!(receiver.recv().await, Some(0));
        drop(second);
        drop(first);
        third.await.unwrap().send(1);
        assert_eq!(receiver.recv().await, Some(1));
        // A dropped permit also releases its capacity.
        drop(sender.reserve().await.unwrap());
        sender.try_send(2).unwrap();
        assert_eq!(receiver.len(), 1);
    };

    the_waker_of_the_last_poll_is_woken = async {
        let (sender, mut receiver) = chan::unbounded();
        let (first, first_waker) = ForeignWaker::new();
        let (second, second_waker) = ForeignWaker::new();
        for waker in [&first_waker, &second_waker] {
            assert!(receiver.poll_recv(&mut Context::from_waker(waker)).is_pending());
        }
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!((first.n_wakes(), second.n_wakes()), (0, 1));
        assert_eq!(receiver.recv().await, Some(1));
    };

    unread_messages_are_dropped_with_the_receiver = async {
        let trace = Trace::default();
        let (sender, receiver) = chan::unbounded();
        assert!(sender.send(trace.on_drop("first")).is_ok());
        assert!(sender.send(trace.on_drop("second")).is_ok());
        drop(receiver);
        trace.assert(&["first", "second"]);
        drop(sender);
    };

    a_destructor_of_a_message_may_use_the_channel = async {
        let (sender, mut receiver) = chan::unbounded::<Box<dyn FnOnce()>>();
        let inner = sender.clone();
        let guard = OnDrop(move || assert!(inner.send(Box::new(|| {})).is_err()));
        assert!(sender.send(Box::new(move || drop(guard))).is_ok());
        assert_eq!(receiver.len(), 1);
        receiver.close();
        drop(receiver);
    };

    a_busy_channel_yields = async {
        // Both are always ready, so only the budget lets the third run.
        let (sender, mut receiver) = chan::unbounded();
        let n_turns = Rc::new(Cell::new(0));
        let count = n_turns.clone();
        let third = spawn(async move {
            loop {
                count.set(count.get() + 1);
                yield_now().await;
            }
        });
        for i in 0..10_000 {
            sender.send(i).unwrap();
            receiver.recv().await.unwrap();
        }
        assert!(n_turns.get() >= 10_000 / 128, "{} turns", n_turns.get());
        third.abort();
    };

    a_channel_is_a_stream = async {
        let (sender, mut receiver) = chan::unbounded();
        sender.send(7).unwrap();
        drop(sender);
        assert_eq!(next(&mut receiver).await, Some(7));
        assert_eq!(next(&mut receiver).await, None);
    };
}

async fn next<T, S: Sharing<T>>(receiver: &mut Receiver<T, S>) -> Option<T> {
    poll_fn(|cx| futures_core::Stream::poll_next(Pin::new(&mut *receiver), cx)).await
}

#[test]
#[should_panic(expected = "capacity for one message")]
fn a_bound_of_zero_is_refused() {
    drop(channel::bounded::<()>(0));
}

#[test]
fn a_local_message_need_not_be_send() {
    run(async {
        let (sender, mut receiver) = local::bounded(1);
        sender.send(Rc::new(7)).await.unwrap();
        assert_eq!(*receiver.recv().await.unwrap(), 7);
    })
    .unwrap();
}

#[test]
fn a_flood_from_eight_threads_arrives_whole_and_in_order() {
    const N_THREADS: usize = 8;
    const N_EACH: usize = 50_000;
    with_watchdog(Duration::from_secs(60), || {
        let (sender, mut receiver) = channel::unbounded();
        let threads: Vec<_> = (0..N_THREADS)
            .map(|t| {
                let sender = sender.clone();
                thread::spawn(move || (0..N_EACH).for_each(|i| sender.send((t, i)).unwrap()))
            })
            .collect();
        drop(sender);
        let counts = run(async {
            let mut counts = [0; N_THREADS];
            while let Some((t, i)) = receiver.recv().await {
                assert_eq!(counts[t], i);
                counts[t] += 1;
            }
            counts
        });
        assert_eq!(counts.unwrap(), [N_EACH; N_THREADS]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn bounded_senders_on_many_loops_lose_nothing_to_cancellation() {
    const N_THREADS: usize = 4;
    const N_EACH: usize = 2_000;
    with_watchdog(Duration::from_secs(60), || {
        let (sender, mut receiver) = channel::bounded(2);
        let n_cancelled = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..N_THREADS)
            .map(|_| {
                let (sender, n_cancelled) = (sender.clone(), Arc::clone(&n_cancelled));
                thread::spawn(move || {
                    run(async {
                        for i in 0..N_EACH {
                            let limit = Duration::from_micros(i as u64 % 5);
                            match timeout(limit, sender.reserve()).await {
                                Ok(permit) => permit.unwrap().send(i),
                                Err(_) => drop(n_cancelled.fetch_add(1, Ordering::SeqCst)),
                            }
                        }
                    })
                    .unwrap();
                })
            })
            .collect();
        drop(sender);
        let n_received = block_on_elsewhere(async {
            let mut n = 0;
            while receiver.recv().await.is_some() {
                n += 1;
            }
            n
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(n_received + n_cancelled.load(Ordering::SeqCst), N_THREADS * N_EACH);
    });
}
