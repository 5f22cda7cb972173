//! Looking up host names, on a few threads of their own.
//!
//! The system's way to ask (`getaddrinfo`) blocks, cannot be cancelled, and takes half a minute
//! when a name server does not answer. On threads of its own it is in nobody's way: not in that of
//! other blocking work, and not in that of the end of a loop, which does not wait for an answer
//! that nobody wants any more.

use std::collections::VecDeque;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{hold_time, poll_proceed, timeout};
use polyloop_reactor::PerProcess;
use polyloop_reactor::restore_timer_slack;

use crate::addr::{Target, ToAddrs, malformed};

/// The most names that are looked up at the same time; further ones queue.
///
/// Enough that a few dead name servers do not block the rest, few enough to be polite to them.
const MAX_THREADS: usize = 16;

/// The most threads that are stuck with a question which no one waits for any more and that do not
/// count towards [`MAX_THREADS`]. With more of them, new questions queue.
const MAX_ABANDONED: usize = 64;

/// The threads for names that need no name server, so that those do not queue behind the others.
const MAX_LOCAL_THREADS: usize = 2;

/// What names hosts besides name servers.
const HOSTS_FILE: &str = "/etc/hosts";

/// How long a thread waits for another name before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long an answer is waited for, queueing included.
///
/// Two name servers, asked twice each for the system's usual five seconds, and some more.
const DEADLINE: Duration = Duration::from_secs(30);

/// Finds the addresses of a host. What is an address already needs no lookup.
///
/// Names are looked up on threads for that purpose, at most 16 at a time for the whole process, by
/// the system's own means: `nsswitch.conf` and `resolv.conf` count. A lookup that is dropped stops
/// counting, even if its thread cannot be stopped; up to 64 threads may be stuck in this way.
/// `localhost` and the names in `/etc/hosts` have threads of their own and do not queue behind
/// names that a name server is asked about.
///
/// # Errors
/// [`TimedOut`](io::ErrorKind::TimedOut) after 30 seconds; for a shorter time, wrap it in
/// `timeout`. [`InvalidInput`](io::ErrorKind::InvalidInput) for what is not of the form
/// `host:port`. Of a name that does not resolve: which, and what the system says.
///
/// # Cancel safety
/// The answer is thrown away when it comes.
///
/// # References
/// [getaddrinfo(3)](https://man7.org/linux/man-pages/man3/getaddrinfo.3.html).
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let addrs = polyloop::net::lookup_host("localhost:80").await?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub async fn lookup_host(addr: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    // An address needs no looking up, so a loop around it would never yield.
    poll_fn(poll_proceed).await;
    match addr.target() {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Malformed(text) => Err(malformed(&text)),
        Target::Name(host, port) => look_up(host, port).await,
    }
}

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let resolve = |host: &str, port| Ok((host, port).to_socket_addrs()?.collect());
    let _hold = hold_time();
    look_up_in(LOCAL.get(), RESOLVER.get(), HOSTS_FILE, resolve, host, port).await
}

/// Looks a host up on the threads that are meant for it. Tests bring their own.
async fn look_up_in(
    local: &'static Resolver,
    resolver: &'static Resolver,
    hosts_file: &'static str,
    resolve: fn(&str, u16) -> Answer,
    host: String,
    port: u16,
) -> Answer {
    let name = host.clone();
    let look_up = async {
        // Files are read on a thread as well. The answer still is the system's.
        let name = host.clone();
        let ask = move || {
            let is_local = is_local(&name) || is_in_file(&name, hosts_file);
            if is_local { resolve(&name, port) } else { Ok(Vec::new()) }
        };
        let addrs = Lookup::begin(local, ask)?.await?;
        if !addrs.is_empty() {
            return Ok(addrs);
        }
        Lookup::begin(resolver, move || resolve(&host, port))?.await
    };
    explained(&name, look_up).await
}

/// Reports whether a name needs neither a file nor a name server: the machine's own, and addresses in
/// forms that only the system reads, such as `fe80::1%eth0` and `127.1`.
///
/// Exact, since names may come from a peer: the system asks name servers about all that only looks like
/// these, such as `a.localhost`, `a.1` and `1.2.3.256`, and two such questions would occupy the threads.
fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || is_ipv6_with_zone(host) || is_inet_aton(host)
}

fn is_ipv6_with_zone(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Reports whether a name is an address in the form of inet_aton(3): one to four numbers, decimal, octal or
/// hexadecimal, the last of which stands for all bytes that are left.
fn is_inet_aton(host: &str) -> bool {
    let (first, last) = match host.rsplit_once('.') {
        None => (None, host),
        Some((first, last)) => (Some(first), last),
    };
    let bytes = first.into_iter().flat_map(|first| first.split('.'));
    let n_bytes = bytes.clone().count();
    n_bytes < 4
        && bytes.map(number).all(|byte| byte.is_some_and(|byte| byte < 256))
        && number(last).is_some_and(|rest| rest >> (32 - 8 * n_bytes) == 0)
}

/// Reads a number as C does.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, if text.starts_with('0') { 8 } else { 10 }),
    };
    // `from_str_radix` takes a sign, too.
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    if is_number { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// Reports whether a file in the form of hosts(5) has a name; without a file none is in it. A name with a
/// dot at its end is not: the system asks a name server about it.
fn is_in_file(host: &str, file: &str) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.skip(1).any(|name| name.eq_ignore_ascii_case(host.as_bytes()))
    })
}

/// Waits for an answer, which names the host if it is an error.
async fn explained(name: &str, answer: impl Future<Output = Answer>) -> Answer {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("looking up {name:?}: {error}"));
    let addrs: Vec<_> =
        timeout(DEADLINE, answer).await.map_err(io::Error::from).flatten().map_err(explain)?;
    if addrs.is_empty() {
        let message = format!("looking up {name:?}: no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(addrs)
}

/// For names that need no name server.
static LOCAL: PerProcess<Resolver> = PerProcess::new(|_parents| Resolver::new(MAX_LOCAL_THREADS));

/// For all other names.
static RESOLVER: PerProcess<Resolver> = PerProcess::new(|_parents| Resolver::new(MAX_THREADS));

type Answer = io::Result<Vec<SocketAddr>>;

/// The threads that ask, of one process: a forked child has none of its parent's.
struct Resolver {
    max_threads: usize,
    state: Mutex<State>,
    /// A question was queued.
    work: Condvar,
}

struct State {
    queue: VecDeque<Arc<Question>>,
    n_threads: usize,
    /// Threads that wait for a question, and those that were started for one and are on the way.
    n_free: usize,
    /// Threads that ask what no one wants to know any more.
    n_abandoned: usize,
    /// When the queue is as long as this, questions that were taken back are swept out of it.
    sweep_at: usize,
}

/// The length at which a queue is worth sweeping.
const SWEEP_AT_LEAST: usize = 64;

impl State {
    const fn new() -> State {
        let queue = VecDeque::new();
        State { queue, n_threads: 0, n_free: 0, n_abandoned: 0, sweep_at: SWEEP_AT_LEAST }
    }

    /// Returns how many threads count towards the limit.
    fn n_counted(&self) -> usize {
        self.n_threads - self.n_abandoned.min(MAX_ABANDONED)
    }

    /// Forgets questions that nobody waits for any more, now and then, so that a queue that does
    /// not move does not grow with them.
    fn sweep(&mut self) {
        if self.queue.len() >= self.sweep_at {
            self.queue.retain(|question| !matches!(*question.lock(), Progress::Over));
            self.sweep_at = SWEEP_AT_LEAST.max(2 * self.queue.len());
        }
    }
}

/// One name that somebody wants to know about.
struct Question {
    state: Mutex<Progress>,
}

type Ask = Box<dyn FnOnce() -> Answer + Send>;

/// ```text
/// Queued ──a thread is free──▶ Asked ──answer──▶ Answered ──poll──▶ Over
///    └────────────drop───────────┴────────────────drop────────────────▲
/// ```
enum Progress {
    Queued(Ask, Option<Waker>),
    Asked(Option<Waker>),
    Answered(Answer),
    Over,
}

impl Question {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the answer to a question, which is taken back if it is dropped.
struct Lookup {
    question: Arc<Question>,
    resolver: &'static Resolver,
    /// The process that asked: a forked child has a copy, whose locks may have been copied locked.
    pid: u32,
}

impl Lookup {
    fn begin(
        resolver: &'static Resolver,
        ask: impl FnOnce() -> Answer + Send + 'static,
    ) -> io::Result<impl Future<Output = Answer>> {
        let question = Arc::new(Question { state: Progress::Queued(Box::new(ask), None).into() });
        resolver.queue(Arc::clone(&question))?;
        let lookup = Lookup { question, resolver, pid: process::id() };
        Ok(poll_fn(move |cx| lookup.poll(cx)))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        std::task::ready!(poll_proceed(cx));
        // Cloned before the lock is taken, and the old one dropped after: they may be foreign.
        let waker = Some(cx.waker().clone());
        let mut progress = self.question.lock();
        let old = match &mut *progress {
            Progress::Queued(_, place) | Progress::Asked(place) => mem::replace(place, waker),
            Progress::Answered(_) => {
                let answered = mem::replace(&mut *progress, Progress::Over);
                drop(progress);
                let Progress::Answered(answer) = answered else { unreachable!("it was seen") };
                return Poll::Ready(answer);
            }
            Progress::Over => panic!("a lookup was polled after it was ready"),
        };
        drop(progress);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if self.pid != process::id() {
            return;
        }
        // With the lock of the threads, so that the one that asks finds itself counted when it sees
        // that no one waits for the answer.
        let mut state = self.resolver.lock();
        let progress = mem::replace(&mut *self.question.lock(), Progress::Over);
        if matches!(progress, Progress::Asked(_)) {
            state.n_abandoned += 1;
            self.resolver.start_if_needed(&mut state).ok();
        }
        drop(state);
        // The waker in it may be foreign.
        drop(progress);
    }
}

impl Resolver {
    const fn new(max_threads: usize) -> Resolver {
        Resolver { max_threads, state: Mutex::new(State::new()), work: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a question and sees to it that a thread will take it.
    fn queue(&'static self, question: Arc<Question>) -> io::Result<()> {
        let mut state = self.lock();
        state.sweep();
        state.queue.push_back(question);
        if let Err(error) = self.start_if_needed(&mut state)
            && state.n_threads == 0
        {
            state.queue.pop_back();
            return Err(error);
        }
        // If there are threads, they will come to it: without the lock, or the one that wakes would
        // have to wait for it.
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Starts a thread if more is queued than threads are free, and another one may be started.
    fn start_if_needed(&'static self, state: &mut State) -> io::Result<()> {
        if state.queue.len() <= state.n_free || state.n_counted() >= self.max_threads {
            return Ok(());
        }
        // Or the thread would inherit what a wait for a deadline has asked for.
        restore_timer_slack();
        thread::Builder::new().name("polyloop-lookup".into()).spawn(|| self.serve())?;
        state.n_threads += 1;
        state.n_free += 1;
        Ok(())
    }

    /// Is a thread: asks one question after another until there are none for a while.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            // It was counted as free when it was started, and is after each question.
            let waited =
                self.work.wait_timeout_while(state, KEEP_ALIVE, |state| state.queue.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.n_free -= 1;
            let Some(question) = state.queue.pop_front() else {
                // A question cannot slip in: the lock is held.
                state.n_threads -= 1;
                return;
            };
            drop(state);
            let asked = catch_unwind(AssertUnwindSafe(|| question.ask()));
            let was_abandoned = match asked {
                Ok(was_abandoned) => was_abandoned,
                Err(payload) => {
                    // A foreign waker has panicked, after the answer was left. What it threw may
                    // panic when it is dropped, too.
                    mem::forget(payload);
                    false
                }
            };
            state = self.lock();
            if was_abandoned {
                state.n_abandoned -= 1;
                if state.n_counted() > self.max_threads {
                    // Another one was started in its place.
                    state.n_threads -= 1;
                    return;
                }
            }
            state.n_free += 1;
        }
    }
}

impl Question {
    /// Asks, unless no one waits any more, and wakes who does. Returns whether the question was
    /// abandoned while it was asked.
    fn ask(&self) -> bool {
        let mut progress = self.lock();
        let ask = match mem::replace(&mut *progress, Progress::Over) {
            Progress::Queued(ask, waker) => {
                *progress = Progress::Asked(waker);
                ask
            }
            _ => return false,
        };
        drop(progress);
        let answer = catch_unwind(AssertUnwindSafe(ask))
            .unwrap_or_else(|_| Err(io::Error::other("the lookup has panicked")));
        let mut progress = self.lock();
        let Progress::Asked(waker) = &mut *progress else { return true };
        let waker = waker.take();
        *progress = Progress::Answered(answer);
        drop(progress);
        if let Some(waker) = waker {
            waker.wake();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    async fn ask_about(
        resolver: &'static Resolver,
        name: &str,
        ask: impl FnOnce() -> Answer + Send + 'static,
    ) -> Answer {
        explained(name, async { Lookup::begin(resolver, ask)?.await }).await
    }

    const LONG: Duration = Duration::from_secs(20);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Asks what is not answered before the sender is dropped, and waits until it is being asked.
    async fn hang(resolver: &'static Resolver, until: &Arc<Mutex<mpsc::Receiver<()>>>) -> Lookup {
        let until = Arc::clone(until);
        let (began, has_begun) = mpsc::channel();
        let ask = move || {
            began.send(()).unwrap();
            let _ = until.lock().unwrap().recv();
            Ok(Vec::new())
        };
        let question = Arc::new(Question { state: Progress::Queued(Box::new(ask), None).into() });
        resolver.queue(Arc::clone(&question)).unwrap();
        has_begun.recv_timeout(LONG).unwrap();
        Lookup { question, resolver, pid: process::id() }
    }

    #[test]
    fn a_forked_child_waits_for_no_lock_of_its_parents() {
        static ONE: PerProcess<Resolver> = PerProcess::new(|_parents| Resolver::new(1));
        // As another thread may hold it when the child is made, which then has a copy that stays locked.
        let held = ONE.get().lock();
        let code = polyloop_reactor::conformance::in_forked_child(|| {
            let lookup = Lookup::begin(ONE.get(), || Ok(vec![addr(7)])).unwrap();
            let mut lookup = pin!(lookup);
            let deadline = std::time::Instant::now() + LONG;
            while std::time::Instant::now() < deadline {
                let cx = &mut Context::from_waker(std::task::Waker::noop());
                if let Poll::Ready(answer) = lookup.as_mut().poll(cx) {
                    return answer.unwrap() == [addr(7)];
                }
                thread::yield_now();
            }
            false
        });
        drop(held);
        assert_eq!(code.unwrap(), 0);
    }

    #[test]
    fn lookups_that_were_abandoned_do_not_hold_up_others() {
        static TWO: Resolver = Resolver::new(2);
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        polyloop_executor::run(async move {
            for round in 0..3 {
                let hanging = [hang(&TWO, &until).await, hang(&TWO, &until).await];
                assert_eq!(TWO.lock().n_threads, 2 * round + 2, "no more at once than it may");
                // One that queues already, and one that comes later.
                let queued = Lookup::begin(&TWO, || Ok(vec![addr(1)])).unwrap();
                drop(hanging);
                assert_eq!(timeout(LONG, queued).await.unwrap().unwrap(), [addr(1)]);
                let later = Lookup::begin(&TWO, || Ok(vec![addr(2)])).unwrap();
                assert_eq!(timeout(LONG, later).await.unwrap().unwrap(), [addr(2)]);
            }
            // When the answers come after all, there are too many threads.
            drop(release);
            let began = std::time::Instant::now();
            while TWO.lock().n_threads > 2 {
                assert!(began.elapsed() < LONG, "{} threads", TWO.lock().n_threads);
                thread::yield_now();
            }
            assert_eq!(TWO.lock().n_abandoned, 0);
            let after = Lookup::begin(&TWO, || Ok(vec![addr(3)])).unwrap();
            assert_eq!(timeout(LONG, after).await.unwrap().unwrap(), [addr(3)]);
        })
        .unwrap();
    }

    #[test]
    fn threads_of_abandoned_lookups_are_bounded() {
        static ONE: Resolver = Resolver::new(1);
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        polyloop_executor::run(async move {
            for _ in 0..=MAX_ABANDONED {
                drop(hang(&ONE, &until).await);
            }
            let queued = Lookup::begin(&ONE, || Ok(vec![addr(1)])).unwrap();
            assert_eq!(ONE.lock().n_threads, MAX_ABANDONED + 1);
            drop(release);
            assert_eq!(timeout(LONG, queued).await.unwrap().unwrap(), [addr(1)]);
        })
        .unwrap();
    }

    #[test]
    fn names_of_the_hosts_file_do_not_queue_behind_name_servers() {
        static NAMES: Resolver = Resolver::new(1);
        static FILES: Resolver = Resolver::new(1);
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        let path = std::env::temp_dir().join(format!("polyloop-hosts-{}", process::id()));
        fs::write(&path, "# one\n10.0.0.1\tfirst Second # third\n").unwrap();
        let file: &'static str = path.to_str().unwrap().to_owned().leak();
        let resolve = |_: &str, port| Ok(vec![addr(port)]);
        polyloop_executor::run(async move {
            // Someone still waits for it, so it counts.
            let _hanging = hang(&NAMES, &until).await;
            let look_up = |host: &str| {
                let lookup = look_up_in(&FILES, &NAMES, file, resolve, host.to_owned(), 80);
                timeout(LONG, lookup)
            };
            let hosts = [
                "localhost",
                "LocalHost",
                "fe80::1%lo",
                "127.1",
                "0x7f.1",
                "127.0.0.010",
                "first",
                "SECOND",
            ];
            for host in hosts {
                assert_eq!(look_up(host).await.unwrap().unwrap(), [addr(80)], "{host}");
            }
            let hosts = [
                "third",
                "one",
                "10.example",
                "localhost.example",
                // Names that look local, and that the system asks a name server about.
                "a.localhost",
                "localhost.",
                "second.",
                "a.1",
                "1.2.3.4.5",
                "1.2.3.256",
                "0.08",
                "1.",
                "",
                "a:b",
                "fe80::x",
            ];
            for host in hosts {
                let lookup = look_up_in(&FILES, &NAMES, file, resolve, host.to_owned(), 80);
                timeout(Duration::from_millis(5), lookup).await.unwrap_err();
            }
            drop(release);
            assert_eq!(look_up("third").await.unwrap().unwrap(), [addr(80)]);
            fs::remove_file(file).unwrap();
            assert_eq!(look_up("first").await.unwrap().unwrap(), [addr(80)]);
        })
        .unwrap();
    }

    #[test]
    fn a_waker_that_panics_does_not_lose_the_thread() {
        struct Panics;

        impl std::task::Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("on purpose");
            }
        }

        static ONE: Resolver = Resolver::new(1);
        let (release, hold) = mpsc::channel::<()>();
        let lookup = Lookup::begin(&ONE, move || {
            let _ = hold.recv();
            Ok(vec![addr(1)])
        });
        let mut lookup = pin!(lookup.unwrap());
        let waker = Waker::from(Arc::new(Panics));
        assert!(lookup.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(release);
        polyloop_executor::run(async {
            let next = Lookup::begin(&ONE, || Ok(vec![addr(2)])).unwrap();
            assert_eq!(timeout(LONG, next).await.unwrap().unwrap(), [addr(2)]);
            assert_eq!(lookup.await.unwrap(), [addr(1)]);
            assert_eq!(ONE.lock().n_threads, 1);
        })
        .unwrap();
    }

    #[test]
    fn a_lookup_that_hangs_ends_with_the_wait_for_it_and_holds_up_nobody_else() {
        static TWO: Resolver = Resolver::new(2);
        let (release, hang) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let hanging = Lookup::begin(&TWO, move || {
                // Until the test is over.
                let _ = hang.recv();
                Ok(Vec::new())
            });
            let mut hanging = pin!(hanging.unwrap());
            let late = timeout(Duration::from_millis(10), hanging.as_mut()).await;
            assert!(late.is_err());
            for port in 1..20 {
                let addr = SocketAddr::from(([127, 0, 0, 1], port));
                let found = Lookup::begin(&TWO, move || Ok(vec![addr])).unwrap().await;
                assert_eq!(found.unwrap(), [addr]);
            }
        })
        .unwrap();
        drop(release);
    }

    #[test]
    fn a_name_server_that_never_answers_is_an_error_after_the_deadline() {
        static ONE: Resolver = Resolver::new(1);
        let (release, hang) = mpsc::channel::<()>();
        // Nothing else can happen, so the half minute is over at once.
        let runtime = polyloop_executor::Runtime::builder().virtual_time(true).build().unwrap();
        let waited = runtime.block_on(async move {
            let began = polyloop_executor::now();
            let never = move || {
                let _ = hang.recv();
                Ok(Vec::new())
            };
            let error = ask_about(&ONE, "slow.example", never).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("\"slow.example\""), "{error}");
            polyloop_executor::now() - began
        });
        assert_eq!(waited.unwrap(), DEADLINE);
        drop(release);
    }

    #[test]
    fn an_answer_without_an_address_is_an_error() {
        static ONE: Resolver = Resolver::new(1);
        polyloop_executor::run(async {
            let error = ask_about(&ONE, "empty.example", || Ok(Vec::new())).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("\"empty.example\""), "{error}");
        })
        .unwrap();
    }

    #[test]
    fn more_questions_than_threads_queue_and_those_that_were_dropped_are_not_asked() {
        static ONE: Resolver = Resolver::new(1);
        static N_ASKED: AtomicUsize = AtomicUsize::new(0);
        let (release, hold) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let first = Lookup::begin(&ONE, move || {
                let _ = hold.recv();
                Ok(Vec::new())
            });
            let first = first.unwrap();
            let count = || {
                N_ASKED.fetch_add(1, Ordering::Relaxed);
                Ok(Vec::new())
            };
            let mut queued: Vec<_> = (0..10).map(|_| Lookup::begin(&ONE, count).unwrap()).collect();
            queued.truncate(3);
            drop(release);
            first.await.unwrap();
            for lookup in queued {
                lookup.await.unwrap();
            }
            assert_eq!(ONE.lock().n_threads, 1);
        })
        .unwrap();
        assert_eq!(N_ASKED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn lookups_that_were_given_up_do_not_fill_the_queue() {
        static ONE: Resolver = Resolver::new(1);
        let (release, hold) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let first = Lookup::begin(&ONE, move || {
                let _ = hold.recv();
                Ok(Vec::new())
            });
            let first = first.unwrap();
            let kept: Vec<_> =
                (0..10).map(|_| Lookup::begin(&ONE, || Ok(Vec::new())).unwrap()).collect();
            for _ in 0..10_000 {
                drop(Lookup::begin(&ONE, || panic!("nobody asks this")).unwrap());
            }
            assert!(ONE.lock().queue.len() <= SWEEP_AT_LEAST, "{}", ONE.lock().queue.len());
            drop(release);
            first.await.unwrap();
            for lookup in kept {
                lookup.await.unwrap();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_panic_of_a_lookup_is_its_answer() {
        static ONE: Resolver = Resolver::new(1);
        polyloop_executor::run(async {
            let broken = Lookup::begin(&ONE, || panic!("on purpose")).unwrap().await;
            assert!(broken.unwrap_err().to_string().contains("panicked"));
            assert!(Lookup::begin(&ONE, || Ok(Vec::new())).unwrap().await.is_ok());
        })
        .unwrap();
    }
}
