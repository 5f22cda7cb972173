//! Looking up host names, on a few threads of their own.
//!
//! The system's way to ask (`getaddrinfo`) blocks, cannot be cancelled, and takes half a minute
//! when a name server does not answer. On threads of its own it is in nobody's way: not in that of
//! other blocking work, and not in that of the end of a loop, which does not wait for an answer
//! that nobody wants any more.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{hold_time, poll_proceed, timeout};
use polyloop_reactor::restore_timer_slack;

use crate::addr::{Target, ToAddrs};

/// The most names that are looked up at the same time; further ones queue.
///
/// Enough that a few dead name servers do not block the rest, few enough to be polite to them.
const MAX_THREADS: usize = 16;

/// How long a thread waits for another name before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long an answer is waited for, queueing included.
///
/// Two name servers, asked twice each for the system's usual five seconds, and some more.
const DEADLINE: Duration = Duration::from_secs(30);

/// Finds the addresses of a host. What is an address already needs no lookup.
///
/// Names are looked up on threads for that purpose, at most 16 at a time for the whole process.
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
/// # polyloop_executor::run(async {
/// let addrs = polyloop_net::lookup_host("localhost:80").await?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub async fn lookup_host(addr: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    // An address needs no looking up, so a loop around it would never yield.
    poll_fn(poll_proceed).await;
    match addr.target() {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Malformed(text) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is not of the form host:port"),
        )),
        Target::Name(host, port) => look_up(host, port).await,
    }
}

async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let name = host.clone();
    let ask = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
    let _hold = hold_time();
    ask_about(&RESOLVER, &name, ask).await
}

/// Waits for an answer, which names the host if it is an error. Tests bring their own resolver.
async fn ask_about(
    resolver: &'static Resolver,
    name: &str,
    ask: impl FnOnce() -> Answer + Send + 'static,
) -> Answer {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("looking up {name:?}: {error}"));
    let answer = async { Lookup::begin(resolver, ask)?.await };
    let addrs: Vec<_> =
        timeout(DEADLINE, answer).await.map_err(io::Error::from).flatten().map_err(explain)?;
    if addrs.is_empty() {
        let message = format!("looking up {name:?}: no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(addrs)
}

static RESOLVER: Resolver = Resolver::new(MAX_THREADS);

type Answer = io::Result<Vec<SocketAddr>>;

/// The threads that ask.
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
    /// When the queue is as long as this, questions that were taken back are swept out of it.
    sweep_at: usize,
    /// The process that the threads are of: a forked child has none of them.
    pid: u32,
}

/// The length at which a queue is worth sweeping.
const SWEEP_AT_LEAST: usize = 64;

impl State {
    const fn new(pid: u32) -> State {
        let queue = VecDeque::new();
        State { queue, n_threads: 0, n_free: 0, sweep_at: SWEEP_AT_LEAST, pid }
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
struct Lookup(Arc<Question>);

impl Lookup {
    fn begin(
        resolver: &'static Resolver,
        ask: impl FnOnce() -> Answer + Send + 'static,
    ) -> io::Result<impl Future<Output = Answer>> {
        let question = Arc::new(Question { state: Progress::Queued(Box::new(ask), None).into() });
        resolver.queue(Arc::clone(&question))?;
        let lookup = Lookup(question);
        Ok(poll_fn(move |cx| lookup.poll(cx)))
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        std::task::ready!(poll_proceed(cx));
        // Cloned before the lock is taken, and the old one dropped after: they may be foreign.
        let waker = Some(cx.waker().clone());
        let mut progress = self.0.lock();
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
        let progress = mem::replace(&mut *self.0.lock(), Progress::Over);
        drop(progress);
    }
}

impl Resolver {
    const fn new(max_threads: usize) -> Resolver {
        Resolver { max_threads, state: Mutex::new(State::new(0)), work: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a question and sees to it that a thread will take it.
    fn queue(&'static self, question: Arc<Question>) -> io::Result<()> {
        let mut state = self.lock();
        if state.pid != process::id() {
            *state = State::new(process::id());
        }
        state.sweep();
        state.queue.push_back(question);
        if state.queue.len() <= state.n_free || state.n_threads == self.max_threads {
            self.work.notify_one();
            return Ok(());
        }
        // Or the thread would inherit what a wait for a deadline has asked for.
        restore_timer_slack();
        let started = thread::Builder::new().name("polyloop-lookup".into()).spawn(|| self.serve());
        match started {
            Ok(_) => {
                state.n_threads += 1;
                state.n_free += 1;
            }
            Err(error) if state.n_threads == 0 => {
                state.queue.pop_back();
                return Err(error);
            }
            // The threads there are will come to it.
            Err(_) => {}
        }
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
            question.ask();
            state = self.lock();
            state.n_free += 1;
        }
    }
}

impl Question {
    /// Asks, and tells whoever waits; nothing if nobody does any more.
    fn ask(&self) {
        let mut progress = self.lock();
        let ask = match mem::replace(&mut *progress, Progress::Over) {
            Progress::Queued(ask, waker) => {
                *progress = Progress::Asked(waker);
                ask
            }
            _ => return,
        };
        drop(progress);
        let answer = catch_unwind(AssertUnwindSafe(ask))
            .unwrap_or_else(|_| Err(io::Error::other("the lookup has panicked")));
        let mut progress = self.lock();
        let Progress::Asked(waker) = &mut *progress else { return };
        let waker = waker.take();
        *progress = Progress::Answered(answer);
        drop(progress);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

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
