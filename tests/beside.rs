//! Runtime-independent crates used with polyloop: each is woken by another task and by another thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use polyloop::{sleep, spawn};

/// Long enough for the waiter to be waiting.
const A_MOMENT: Duration = Duration::from_millis(5);

#[test]
fn async_channel_carries_messages_between_tasks_and_threads() {
    polyloop::run(async {
        let (sender, receiver) = async_channel::bounded(1);
        let from_a_task = sender.clone();
        let task = spawn(async move {
            for n in 0..100 {
                from_a_task.send(n).await.unwrap();
            }
        });
        let thread = thread::spawn(move || {
            for n in 100..200 {
                sender.send_blocking(n).unwrap();
            }
        });
        let mut received = Vec::new();
        while let Ok(n) = receiver.recv().await {
            received.push(n);
        }
        task.await.unwrap();
        thread.join().unwrap();
        received.sort_unstable();
        assert_eq!(received, (0..200).collect::<Vec<_>>());
    })
    .unwrap();
}

#[test]
fn async_lock_is_held_across_waits() {
    polyloop::run(async {
        let mutex = Arc::new(async_lock::Mutex::new(0));
        let held_by_a_thread = mutex.clone().lock_arc().await;
        let thread = thread::spawn(move || {
            let mut value = held_by_a_thread;
            thread::sleep(A_MOMENT);
            *value += 1;
        });
        let tasks = (0..100).map(|_| {
            let mutex = mutex.clone();
            spawn(async move {
                let mut value = mutex.lock().await;
                let before = *value;
                polyloop::yield_now().await;
                *value = before + 1;
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        thread.join().unwrap();
        assert_eq!(*mutex.lock().await, 101);
    })
    .unwrap();
}

#[test]
fn event_listener_is_notified_from_a_thread() {
    polyloop::run(async {
        let event = Arc::new(event_listener::Event::new());
        let listener = event.listen();
        let thread = thread::spawn(move || {
            thread::sleep(A_MOMENT);
            event.notify(1);
        });
        listener.await;
        thread.join().unwrap();
    })
    .unwrap();
}

#[test]
fn combinators_and_streams_of_futures_util_run_on_a_loop() {
    use futures_util::stream::{FuturesUnordered, StreamExt};

    polyloop::run(async {
        let mut sleeps = (1..=5)
            .rev()
            .map(|ms| async move {
                sleep(Duration::from_millis(ms)).await;
                ms
            })
            .collect::<FuturesUnordered<_>>();
        let mut ended = Vec::new();
        while let Some(ms) = sleeps.next().await {
            ended.push(ms);
        }
        assert_eq!(ended, [1, 2, 3, 4, 5]);

        let (left, right) = futures_util::future::join(
            async { sleep(A_MOMENT).await },
            spawn(async { sleep(A_MOMENT).await }),
        )
        .await;
        assert_eq!((left, right.unwrap()), ((), ()));
    })
    .unwrap();
}

#[test]
fn tokios_sync_module_works_without_a_tokio_runtime() {
    use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};

    polyloop::run(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let thread = thread::spawn(move || {
            for n in 0..100 {
                sender.blocking_send(n).unwrap();
            }
        });
        let mut sum = 0;
        while let Some(n) = receiver.recv().await {
            sum += n;
        }
        thread.join().unwrap();
        assert_eq!(sum, 4950);

        let (answer, question) = oneshot::channel();
        let task = spawn(async move { answer.send(42).unwrap() });
        assert_eq!(question.await, Ok(42));
        task.await.unwrap();

        let (config, mut watched) = watch::channel(1);
        let task = spawn(async move {
            config.send(2).unwrap();
            config.closed().await;
        });
        watched.changed().await.unwrap();
        assert_eq!(*watched.borrow(), 2);
        drop(watched);
        task.await.unwrap();

        let (news, mut subscriber) = broadcast::channel(4);
        let task = spawn(async move { news.send("news").unwrap() });
        assert_eq!(subscriber.recv().await, Ok("news"));
        task.await.unwrap();

        let notify = Arc::new(Notify::new());
        let notified = notify.clone();
        let waiter = spawn(async move { notified.notified().await });
        polyloop::yield_now().await;
        notify.notify_one();
        waiter.await.unwrap();

        let semaphore = Arc::new(Semaphore::new(0));
        let acquired = semaphore.clone();
        let waiter = spawn(async move { acquired.acquire().await.unwrap().forget() });
        polyloop::yield_now().await;
        semaphore.add_permits(1);
        waiter.await.unwrap();
        assert_eq!(semaphore.available_permits(), 0);
    })
    .unwrap();
}
