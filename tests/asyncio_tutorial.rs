//! The programs of asyncio's tutorial, in virtual time, with the order of their output.

use std::cell::RefCell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use polyloop::callback::{call_at, call_later, call_soon};
use polyloop::time::now;
use polyloop::{Runtime, gather, sleep, spawn, yield_now};

/// The lines that a program prints, each with its second.
#[derive(Clone)]
struct Printed {
    lines: Rc<RefCell<Vec<(u64, String)>>>,
    start: std::time::Instant,
}

impl Printed {
    fn line(&self, text: impl Into<String>) {
        let seconds = (now() - self.start).as_secs();
        self.lines.borrow_mut().push((seconds, text.into()));
    }

    async fn say_after(self, seconds: u64, what: &'static str) {
        sleep(Duration::from_secs(seconds)).await;
        self.line(what);
    }
}

/// Runs a program and compares its output.
fn prints(program: impl AsyncFnOnce(Printed), expected: &[(u64, &str)]) {
    let runtime = Runtime::builder().virtual_time(true).build().unwrap();
    let lines = runtime.block_on(async {
        let printed = Printed { lines: Rc::default(), start: now() };
        program(printed.clone()).await;
        printed.lines.take()
    });
    let lines = lines.unwrap();
    let lines: Vec<(u64, &str)> = lines.iter().map(|(at, text)| (*at, &**text)).collect();
    assert_eq!(lines, expected);
}

#[test]
fn one_after_the_other_takes_three_seconds() {
    prints(
        async |printed| {
            printed.line("started");
            printed.clone().say_after(1, "hello").await;
            printed.clone().say_after(2, "world").await;
            printed.line("finished");
        },
        &[(0, "started"), (1, "hello"), (3, "world"), (3, "finished")],
    );
}

#[test]
fn at_the_same_time_takes_two_seconds() {
    prints(
        async |printed| {
            let one = spawn(printed.clone().say_after(1, "hello"));
            let two = spawn(printed.clone().say_after(2, "world"));
            printed.line("started");
            one.await.unwrap();
            two.await.unwrap();
            printed.line("finished");
        },
        &[(0, "started"), (1, "hello"), (2, "world"), (2, "finished")],
    );
}

#[test]
fn three_factorials_are_gathered_in_order() {
    async fn factorial(printed: Printed, name: char, number: u64) -> u64 {
        let mut product = 1;
        for i in 2..=number {
            printed.line(format!("Task {name}: Compute factorial({number}), currently i={i}..."));
            sleep(Duration::from_secs(1)).await;
            product *= i;
        }
        printed.line(format!("Task {name}: factorial({number}) = {product}"));
        product
    }
    prints(
        async |printed| {
            let jobs = [('A', 2), ('B', 3), ('C', 4)];
            let jobs = jobs.map(|(name, number)| factorial(printed.clone(), name, number));
            let results: Vec<_> = gather(jobs).await.into_iter().map(Result::unwrap).collect();
            printed.line(format!("{results:?}"));
        },
        &[
            (0, "Task A: Compute factorial(2), currently i=2..."),
            (0, "Task B: Compute factorial(3), currently i=2..."),
            (0, "Task C: Compute factorial(4), currently i=2..."),
            (1, "Task A: factorial(2) = 2"),
            (1, "Task B: Compute factorial(3), currently i=3..."),
            (1, "Task C: Compute factorial(4), currently i=3..."),
            (2, "Task B: factorial(3) = 6"),
            (2, "Task C: Compute factorial(4), currently i=4..."),
            (3, "Task C: factorial(4) = 24"),
            (3, "[2, 6, 24]"),
        ],
    );
}

#[test]
fn a_cancelled_task_cleans_up() {
    /// Rust's `finally`: a value that is dropped with the future.
    struct Finally(Printed, bool);
    impl Drop for Finally {
        fn drop(&mut self) {
            if !self.1 {
                self.0.line("cancel_me(): cancel sleep");
            }
            self.0.line("cancel_me(): after sleep");
        }
    }
    prints(
        async |printed| {
            let inner = printed.clone();
            let task = spawn(async move {
                inner.line("cancel_me(): before sleep");
                let mut finally = Finally(inner, false);
                sleep(Duration::from_secs(3_600)).await;
                finally.1 = true;
            });
            sleep(Duration::from_secs(1)).await;
            task.abort();
            match task.await {
                Err(error) if error.is_cancelled() => {
                    printed.line("main(): cancel_me is cancelled now")
                }
                other => panic!("{other:?}"),
            }
            printed.line("main(): done");
        },
        &[
            (0, "cancel_me(): before sleep"),
            (1, "cancel_me(): cancel sleep"),
            (1, "cancel_me(): after sleep"),
            (1, "main(): cancel_me is cancelled now"),
            (1, "main(): done"),
        ],
    );
}

#[test]
fn a_result_arrives_by_callback() {
    prints(
        async |printed| {
            let result = Rc::new(RefCell::new(None));
            let set = Rc::clone(&result);
            let output = printed.clone();
            call_later(Duration::from_secs(1), move || {
                *set.borrow_mut() = Some("... world");
                output.line("set");
            });
            printed.line("hello ...");
            while result.borrow().is_none() {
                sleep(Duration::from_millis(300)).await;
            }
            printed.line(result.take().unwrap());
        },
        &[(0, "hello ..."), (1, "set"), (1, "... world")],
    );
}

#[test]
fn countdown_and_countup_interleave() {
    async fn count(printed: Printed, name: &'static str, numbers: Vec<u32>) {
        for number in numbers {
            printed.line(format!("{name} {number}"));
            yield_now().await;
        }
    }
    prints(
        async |printed| {
            let down = spawn(count(printed.clone(), "T-minus", vec![3, 2, 1]));
            let up = spawn(count(printed.clone(), "Counting up", vec![0, 1, 2]));
            down.await.unwrap();
            up.await.unwrap();
        },
        &[
            (0, "T-minus 3"),
            (0, "Counting up 0"),
            (0, "T-minus 2"),
            (0, "Counting up 1"),
            (0, "T-minus 1"),
            (0, "Counting up 2"),
        ],
    );
}

#[test]
fn blocking_work_runs_beside_the_loop() {
    // Real time: a thread does not see the loop's clock.
    polyloop::run(async {
        let (done, wait_for_loop) = std::sync::mpsc::channel();
        let blocking = polyloop::spawn_blocking(move || wait_for_loop.recv().unwrap());
        // The loop continues meanwhile, or this would never be sent.
        yield_now().await;
        done.send("from the loop").unwrap();
        assert_eq!(blocking.await.unwrap(), "from the loop");
    })
    .unwrap();
}

#[test]
fn callbacks_keep_their_order() {
    prints(
        async |printed| {
            let line = |text: &'static str| {
                let printed = printed.clone();
                move || printed.line(text)
            };
            let at = now() + Duration::from_secs(2);
            call_later(Duration::from_secs(3), line("later"));
            call_at(at, line("at, first"));
            call_at(at, line("at, second"));
            call_soon(line("soon, first"));
            call_soon(line("soon, second"));
            let cancelled = call_later(Duration::from_secs(1), line("never"));
            assert_eq!(cancelled.deadline(), Some(now() + Duration::from_secs(1)));
            assert!(!cancelled.is_cancelled());
            cancelled.cancel();
            assert!(cancelled.is_cancelled());
            printed.line("main");
            sleep(Duration::from_secs(10)).await;
        },
        &[
            (0, "main"),
            (0, "soon, first"),
            (0, "soon, second"),
            (2, "at, first"),
            (2, "at, second"),
            (3, "later"),
        ],
    );
}

#[test]
fn a_panic_in_a_callback_does_not_end_the_loop() {
    prints(
        async |printed| {
            call_soon(|| panic!("callback"));
            let after = printed.clone();
            call_soon(move || after.line("after"));
            sleep(Duration::from_secs(1)).await;
            printed.line("end");
        },
        &[(0, "after"), (1, "end")],
    );
}

#[test]
fn callbacks_can_be_scheduled_from_other_threads() {
    polyloop::run(async {
        let handle = polyloop::Handle::current().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let never = send.clone();
            let call =
                handle.call_later(Duration::from_secs(60), move || never.send("never").unwrap());
            call.cancel();
            let soon = send.clone();
            handle.call_soon(move || soon.send("soon").unwrap());
            // After that, because this thread may be suspended here for longer than a millisecond.
            handle.call_later(Duration::from_millis(1), move || send.send("later").unwrap());
        });
        let heard = polyloop::spawn_blocking(move || receive.iter().collect::<Vec<_>>());
        assert_eq!(heard.await.unwrap(), ["soon", "later"]);
    })
    .unwrap();
}

#[test]
fn a_panicking_main_future_leaves_nothing_hanging() {
    let runtime = Runtime::new().unwrap();
    drop(runtime.spawn(pending::<()>()));
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { panic!("main") })));
    assert!(result.map(|_: std::io::Result<()>| ()).is_err());
}
