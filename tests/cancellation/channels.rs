//! Channels: a message is delivered once, or stays with its sender.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use futures_core::Stream;
use polyloop::channel::{self, local};

use crate::dropper::{Dropper, cases};

/// Defines the cases of one kind of channel.
macro_rules! channels {
    ($kind:ident, $module:ident) => {
        pub(crate) mod $kind {
            use super::*;

            cases! {
                a_dropped_recv_has_taken_no_message: "Receiver::recv";
                a_dropped_recv_has_taken_no_message_of_a_bounded_channel: "Receiver::recv",
                    "Receiver as Stream";
                a_dropped_send_has_sent_nothing: "Sender::send";
                a_dropped_reserve_gives_its_place_to_the_next: "Sender::reserve";
            }

            async fn a_dropped_recv_has_taken_no_message(dropper: &Dropper) {
                let (sender, mut receiver) = $module::unbounded();
                let mut sender = Some(sender);
                let mut numbers = 0..5;
                let mut peer_step = || match (numbers.next(), &sender) {
                    (Some(number), Some(sender)) => sender.send(number).unwrap(),
                    _ => sender = None,
                };
                let mut received = Vec::new();
                while let Some(number) =
                    dropper.again(async || receiver.recv().await, &mut peer_step).await
                {
                    received.push(number);
                }
                assert_eq!(received, [0, 1, 2, 3, 4]);
            }

            async fn a_dropped_recv_has_taken_no_message_of_a_bounded_channel(dropper: &Dropper) {
                let (sender, mut receiver) = $module::bounded(1);
                let mut sender = Some(sender);
                let mut unsent = (0..5).peekable();
                let mut peer_step = || match (unsent.peek(), &sender) {
                    (Some(number), Some(sender)) => {
                        if sender.try_send(*number).is_ok() {
                            unsent.next();
                        }
                    }
                    _ => sender = None,
                };
                let mut received = Vec::new();
                loop {
                    let next = async || match received.len() % 2 {
                        0 => receiver.recv().await,
                        _ => poll_fn(|cx| Pin::new(&mut receiver).poll_next(cx)).await,
                    };
                    match dropper.again(next, &mut peer_step).await {
                        Some(number) => received.push(number),
                        None => break,
                    }
                }
                assert_eq!(received, [0, 1, 2, 3, 4]);
            }

            async fn a_dropped_send_has_sent_nothing(dropper: &Dropper) {
                let (sender, receiver) = $module::bounded(1);
                let (receiver, received) = (RefCell::new(receiver), RefCell::new(Vec::new()));
                let peer_step =
                    || received.borrow_mut().extend(receiver.borrow_mut().try_recv().ok());
                // Each attempt has a separate message.
                let next = Cell::new(0);
                let mut sent = Vec::new();
                for _ in 0..5 {
                    let send = async || {
                        next.set(next.get() + 1);
                        let number = next.get();
                        sender.send(number).await.map(|()| number)
                    };
                    sent.push(dropper.again(send, peer_step).await.unwrap());
                }
                for _ in 0..2 {
                    peer_step();
                }
                assert_eq!(*received.borrow(), sent);
            }

            async fn a_dropped_reserve_gives_its_place_to_the_next(dropper: &Dropper) {
                let (sender, receiver) = $module::bounded(1);
                sender.try_send(0).unwrap();
                // The other waits as well, and must not wait for a dropped one.
                let other = sender.clone();
                let is_sent = Rc::new(Cell::new(false));
                let tell = Rc::clone(&is_sent);
                let task = polyloop::spawn(async move {
                    polyloop::yield_now().await;
                    other.send(1).await.unwrap();
                    tell.set(true);
                });
                let (receiver, received) = (RefCell::new(receiver), RefCell::new(Vec::new()));
                // One message is taken, so one place is free until the other takes it.
                let peer_step = || {
                    if received.borrow().is_empty() || is_sent.get() {
                        received.borrow_mut().extend(receiver.borrow_mut().try_recv().ok());
                    }
                };
                let reserve = async || sender.reserve().await.map(drop);
                dropper.again(reserve, peer_step).await.unwrap();
                task.await.unwrap();
                is_sent.set(true);
                for _ in 0..2 {
                    peer_step();
                }
                // Capacity that was granted and not used is free again.
                assert_eq!(*received.borrow(), [0, 1]);
                assert_eq!(sender.capacity(), 1);
            }
        }
    };
}

channels!(across_threads, channel);
channels!(on_one_thread, local);
