//! Aim: a panic that the caller causes names the caller's line and a remedy.
//!
//! The panic hook belongs to the process, so this is one test.

use std::future::{pending, ready};
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use polyloop::Backend;
use polyloop::blocking::BlockingPool;
use polyloop::callback::{call_at, call_later, call_soon};
use polyloop::channel;
use polyloop::driver::with_reactor;
use polyloop::driver::{Direction, Reactor};
use polyloop::future::as_completed;
use polyloop::future::race_all;
use polyloop::io::{BufReader, Framing};
use polyloop::scope::CancelScope;
use polyloop::selectors::{Events, KeyedSelector};
use polyloop::time::{interval, interval_at};
use polyloop::{JoinSet, Runtime, gather, sleep, spawn, spawn_blocking};

/// The location and message of the last panic.
type Seen = Arc<Mutex<Option<(String, u32, String)>>>;

/// Asserts that an expression panics at its location with a message that contains `$text`.
macro_rules! check {
    ($seen:expr, $text:expr, $expression:expr) => {{
        let first = line!();
        let result = panic::catch_unwind(AssertUnwindSafe(|| discard($expression)));
        assert_place($seen, $text, result.is_err(), stringify!($expression), first);
    }};
}

fn discard<T>(_value: T) {}

fn assert_place(seen: &Seen, text: &str, has_panicked: bool, what: &str, first: u32) {
    assert!(has_panicked, "{what}: no panic");
    let (file, line, message) = seen.lock().unwrap().take().unwrap();
    assert!(message.contains(text), "{what}: {message}");
    assert_eq!(file, file!(), "{what}");
    assert!((first..first + 6).contains(&line), "{what}: line {line}, not {first}");
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The text of every panic without a runtime.
const REMEDIES: &str = "no runtime on this thread: start one with `polyloop::run`";

#[test]
fn a_panic_names_the_line_that_caused_it() {
    let seen: Seen = Arc::default();
    let noted = Arc::clone(&seen);
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().unwrap();
        let message = info.payload_as_str().unwrap_or_default().to_owned();
        *noted.lock().unwrap() = Some((place.file().to_owned(), place.line(), message));
        print(info);
    }));
    without_a_runtime(&seen);
    wrong_arguments(&seen);
    wrong_times(&seen);
    futures_that_are_polled(&seen);
    drop(panic::take_hook());

    let error = with_reactor(|_| ()).unwrap_err();
    assert!(error.to_string().contains(REMEDIES), "{error}");
    for remedy in ["`Runtime::block_on`", "`Handle::spawn`", "`spawn_blocking`"] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

/// Calls `f` on another thread.
fn elsewhere(f: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(f).join().unwrap());
}

fn without_a_runtime(seen: &Seen) {
    check!(seen, REMEDIES, spawn(ready(())));
    check!(seen, REMEDIES, spawn_blocking(|| ()));
    check!(seen, REMEDIES, call_soon(|| ()));
    check!(seen, REMEDIES, call_later(Duration::ZERO, || ()));
    check!(seen, REMEDIES, call_at(Instant::now(), || ()));
    check!(seen, REMEDIES, as_completed([ready(())]));
    check!(seen, REMEDIES, JoinSet::new().spawn(ready(())));
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(ready(()));
    elsewhere(|| check!(seen, REMEDIES, task.on_done(|_| ())));
}

fn wrong_arguments(seen: &Seen) {
    check!(seen, "capacity for one message", channel::bounded::<()>(0));
    check!(seen, "capacity for one message", channel::local::bounded::<()>(0));
    check!(seen, "period above zero", interval(Duration::ZERO));
    check!(seen, "period above zero", interval_at(Instant::now(), Duration::ZERO));
    let scope = CancelScope::new();
    drop(scope.clone().run(async |_| ()));
    check!(seen, "run twice", scope.run(async |_| ()));
    check!(seen, "race without futures", race_all::<()>(&mut []));
    check!(seen, "zero byte", BlockingPool::builder().name("a\0b"));
    check!(seen, "one to eight bytes", Framing::big_endian(0));
    check!(seen, "one to eight bytes", Framing::little_endian(9));
    check!(seen, "more is consumed", BufReader::new(&b""[..]).consume(1));
    check!(seen, "room for an event", Events::with_capacity(0));
    let selector = Backend::Poll.open().unwrap();
    check!(seen, "room for an event", KeyedSelector::<()>::with_selector(selector, 0));
    let mut reactor = Reactor::new(Backend::Poll.open().unwrap(), 0, 0);
    let token = polyloop::selectors::Token::new(0, 0, 0);
    check!(seen, "a waiter has a waker", reactor.wait(token, Direction::Read, None, &mut None));
}

fn wrong_times(seen: &Seen) {
    let runtime = Runtime::new().unwrap();
    let inside = runtime.block_on(async {
        let mut task = spawn(pending::<()>());
        check!(seen, "await the handle", task.join_timeout(Duration::ZERO));
        let blocking = spawn_blocking(|| ());
        check!(seen, "task of the running loop", blocking.on_done(|_| ()));
        let pool = BlockingPool::builder().build();
        check!(seen, "await `next`", pool.map([1], |i| i).into_iter().next());
    });
    inside.unwrap();
    let mut task = runtime.spawn(ready(()));
    elsewhere(|| {
        let third = Runtime::new().unwrap();
        third.enter(|| check!(seen, "a loop on this thread", task.on_done(|_| ())));
    });
    runtime.block_on(&mut task).unwrap().unwrap();
    check!(seen, "after it was ready", task.join_timeout(Duration::ZERO));
    let cx = &mut Context::from_waker(Waker::noop());
    check!(seen, "after it was ready", Pin::new(&mut task).poll(cx));
}

fn futures_that_are_polled(seen: &Seen) {
    let mut nap = sleep(Duration::ZERO);
    let cx = &mut Context::from_waker(Waker::noop());
    check!(seen, REMEDIES, Pin::new(&mut nap).poll(cx));
    let runtime = Runtime::new().unwrap();
    let inside = runtime.block_on(async {
        let mut task = spawn(ready(()));
        (&mut task).await.unwrap();
        let again = spawn(async move { task.await.unwrap() });
        let first = line!() - 1;
        let has_panicked = again.await.is_err();
        assert_place(seen, "after it was ready", has_panicked, "await", first);
    });
    inside.unwrap();
    // The location of the panic is in the library, because the futures are polled there; the message has the
    // location where they were created.
    let first = line!();
    let made = pin!(gather([ready(())]));
    assert!(panic::catch_unwind(AssertUnwindSafe(|| poll(made))).is_err());
    let (_, _, message) = seen.lock().unwrap().take().unwrap();
    assert!(message.contains(&format!("{}:{}:", file!(), first + 1)), "{message}");
}
