//! Host name lookup, on blocking pools.
//!
//! The system's interface (`getaddrinfo`) blocks, cannot be cancelled, and takes half a minute when a name
//! server does not answer. The threads are those of [`BlockingPool`]s; this module is the policy: which lookups
//! are kept apart from others, and how long an answer may take. A lookup whose future is dropped is abandoned: it
//! leaves the queue, or its thread is replaced. The end of a loop waits for none, since the pools are the process's.
//! Answers are not cached; that is left to the system.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use polyloop_executor::{BlockingPool, JoinError, hold_time, poll_proceed, timeout};
use polyloop_reactor::PerProcess;

use crate::addr::{Target, ToAddrs, malformed};

/// The maximum number of concurrent lookups that may ask a name server; further ones queue.
///
/// Enough that a few dead name servers do not block the rest, and few enough not to flood them.
const MAX_THREADS: usize = 16;

/// The maximum number of threads that run an abandoned lookup and do not count towards [`MAX_THREADS`].
const MAX_ABANDONED: usize = 64;

/// The maximum number of concurrent lookups that need no name server, so that they do not queue behind
/// the others.
const MAX_LOCAL_THREADS: usize = 2;

/// The file that names hosts besides name servers.
const HOSTS_FILE: &str = "/etc/hosts";

/// The time limit for a lookup, including its time in the queue.
///
/// Two name servers, asked twice each with the system's usual timeout of five seconds, and a margin.
const LIMIT: Duration = Duration::from_secs(30);

/// For names that need no name server.
static LOCAL: PerProcess<BlockingPool> = PerProcess::new(|_parents| new_pool(MAX_LOCAL_THREADS));

/// For all other names.
static REMOTE: PerProcess<BlockingPool> = PerProcess::new(|_parents| new_pool(MAX_THREADS));

fn new_pool(max_threads: usize) -> BlockingPool {
    let pool = BlockingPool::builder().name("polyloop-lookup").max_threads(max_threads);
    pool.max_abandoned(MAX_ABANDONED).build()
}

type Answer = io::Result<Vec<SocketAddr>>;

/// Resolves a host name to socket addresses. An address resolves to itself, without a lookup.
///
/// The system resolves the name (`getaddrinfo`), so `nsswitch.conf` and `resolv.conf` apply. At most 16 lookups
/// run at a time in a process; further ones queue. `localhost` and the names in `/etc/hosts` are looked up on two
/// separate threads, and do not queue behind names for which a name server is asked. A dropped lookup no longer
/// counts towards the limit although its thread cannot be stopped; up to 64 threads may be in this state.
///
/// # Errors
/// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the text does not have the form `host:port`.
/// - [`TimedOut`](io::ErrorKind::TimedOut) after 30 seconds. For a shorter limit, use
///   [`timeout`].
/// - [`NotFound`](io::ErrorKind::NotFound) if the host has no address.
/// - An error that names the host, with the message of `getaddrinfo`, if it does not resolve.
///
/// # Cancel safety
/// If the future is dropped, the answer is discarded.
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
#[doc(alias = "getaddrinfo")]
#[doc(alias = "resolve")]
pub async fn lookup_host(addr: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    // An address needs no lookup, and a loop around it would never yield.
    poll_fn(poll_proceed).await;
    match addr.target() {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Malformed(text) => Err(malformed(&text)),
        Target::Name(host, port) => look_up(host, port).await,
    }
}

async fn look_up(host: String, port: u16) -> Answer {
    let resolve = |host: &str, port| Ok((host, port).to_socket_addrs()?.collect());
    let _hold = hold_time();
    look_up_in(LOCAL.get(), REMOTE.get(), HOSTS_FILE, resolve, host, port).await
}

/// Looks a host up on the pool that its name belongs to. Tests pass their own pools.
async fn look_up_in(
    local: &BlockingPool,
    remote: &BlockingPool,
    hosts_file: &'static str,
    resolve: fn(&str, u16) -> Answer,
    host: String,
    port: u16,
) -> Answer {
    let name = host.clone();
    let look_up = async {
        // Reading the file blocks as well. The answer is the system's in any case.
        let name = host.clone();
        let resolve_local = move || {
            let is_local = is_local(&name) || is_in_file(&name, hosts_file);
            if is_local { resolve(&name, port) } else { Ok(Vec::new()) }
        };
        let addrs = ask(local, resolve_local)?.await?;
        if !addrs.is_empty() {
            return Ok(addrs);
        }
        ask(remote, move || resolve(&host, port))?.await
    };
    explained(&name, look_up).await
}

/// Queues a question, which is abandoned if the returned future is dropped.
fn ask<F>(pool: &BlockingPool, question: F) -> io::Result<impl Future<Output = Answer> + use<F>>
where
    F: FnOnce() -> Answer + Send + 'static,
{
    let job = pool.try_spawn_abandonable(question)?;
    let panicked = |_: JoinError| Err(io::Error::other("the lookup panicked"));
    Ok(async move { job.await.unwrap_or_else(panicked) })
}

/// Returns whether a name needs neither a file nor a name server: `localhost`, and addresses in forms that
/// only the system parses, such as `fe80::1%eth0` and `127.1`.
///
/// The test is exact, since names may come from a peer: the system asks a name server about names that only
/// resemble these, such as `a.localhost`, `a.1` and `1.2.3.256`, and two of them would occupy the local threads.
fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || is_ipv6_with_zone(host) || is_inet_aton(host)
}

fn is_ipv6_with_zone(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    address.parse::<Ipv6Addr>().is_ok()
}

/// Returns whether a name is an address in the form of inet_aton(3): one to four numbers, decimal, octal or
/// hexadecimal, the last of which stands for all remaining bytes.
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

/// Parses a number as C does.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, if text.starts_with('0') { 8 } else { 10 }),
    };
    // `from_str_radix` accepts a sign.
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    if is_number { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// Returns whether a file in the form of hosts(5) contains a name. A name that ends with a dot is never found:
/// the system asks a name server about it.
fn is_in_file(host: &str, file: &str) -> bool {
    let Ok(text) = fs::read(file) else { return false };
    text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.skip(1).any(|name| name.eq_ignore_ascii_case(host.as_bytes()))
    })
}

/// Waits for an answer up to the limit. An error names the host.
async fn explained(name: &str, answer: impl Future<Output = Answer>) -> Answer {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("looking up {name:?}: {error}"));
    let addrs: Vec<_> =
        timeout(LIMIT, answer).await.map_err(io::Error::from).flatten().map_err(explain)?;
    if addrs.is_empty() {
        let message = format!("looking up {name:?}: no address");
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(addrs)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;
    use std::process;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, mpsc};
    use std::task::{Context, Poll, Waker};
    use std::thread;

    use super::*;

    async fn ask_about(
        pool: &BlockingPool,
        name: &str,
        question: impl FnOnce() -> Answer + Send + 'static,
    ) -> Answer {
        explained(name, async { ask(pool, question)?.await }).await
    }

    const LONG: Duration = Duration::from_secs(20);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Asks a question that is answered when the sender is dropped, and waits until a thread has taken it.
    fn hang(
        pool: &BlockingPool,
        until: &Arc<Mutex<mpsc::Receiver<()>>>,
    ) -> impl Future<Output = Answer> + use<> {
        let until = Arc::clone(until);
        let (started, has_started) = mpsc::channel();
        let question = move || {
            started.send(()).unwrap();
            let _ = until.lock().unwrap().recv();
            Ok(Vec::new())
        };
        let lookup = ask(pool, question).unwrap();
        has_started.recv_timeout(LONG).unwrap();
        lookup
    }

    #[test]
    fn a_forked_child_looks_names_up_on_threads_of_its_own() {
        static ONE: PerProcess<BlockingPool> = PerProcess::new(|_parents| new_pool(1));
        // The parent's only thread is busy, and the child has no copy of it.
        let (release, until) = mpsc::channel();
        let busy = hang(ONE.get(), &Arc::new(Mutex::new(until)));
        let code = polyloop_reactor::conformance::in_forked_child(|| {
            let mut lookup = pin!(ask(ONE.get(), || Ok(vec![addr(7)])).unwrap());
            let deadline = std::time::Instant::now() + LONG;
            while std::time::Instant::now() < deadline {
                let cx = &mut Context::from_waker(Waker::noop());
                if let Poll::Ready(answer) = lookup.as_mut().poll(cx) {
                    return answer.unwrap() == [addr(7)];
                }
                thread::yield_now();
            }
            false
        });
        drop((busy, release));
        assert_eq!(code.unwrap(), 0);
    }

    #[test]
    fn abandoned_lookups_do_not_hold_up_others() {
        static TWO: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(2));
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        polyloop_executor::run(async move {
            for round in 0..3 {
                let hanging = [hang(&TWO, &until), hang(&TWO, &until)];
                assert_eq!(TWO.threads(), 2 * round + 2, "more than allowed");
                // One that is queued already, and one that is queued later.
                let queued = ask(&TWO, || Ok(vec![addr(1)])).unwrap();
                drop(hanging);
                assert_eq!(timeout(LONG, queued).await.unwrap().unwrap(), [addr(1)]);
                let later = ask(&TWO, || Ok(vec![addr(2)])).unwrap();
                assert_eq!(timeout(LONG, later).await.unwrap().unwrap(), [addr(2)]);
            }
            // Once the answers have come, there are too many threads.
            drop(release);
            let began = std::time::Instant::now();
            while TWO.threads() > 2 {
                assert!(began.elapsed() < LONG, "{} threads", TWO.threads());
                thread::yield_now();
            }
            let after = ask(&TWO, || Ok(vec![addr(3)])).unwrap();
            assert_eq!(timeout(LONG, after).await.unwrap().unwrap(), [addr(3)]);
        })
        .unwrap();
    }

    #[test]
    fn threads_of_abandoned_lookups_are_bounded() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        polyloop_executor::run(async move {
            for _ in 0..=MAX_ABANDONED {
                drop(hang(&ONE, &until));
            }
            let queued = ask(&ONE, || Ok(vec![addr(1)])).unwrap();
            assert_eq!(ONE.threads(), MAX_ABANDONED + 1);
            drop(release);
            assert_eq!(timeout(LONG, queued).await.unwrap().unwrap(), [addr(1)]);
        })
        .unwrap();
    }

    #[test]
    fn names_of_the_hosts_file_do_not_queue_behind_name_servers() {
        static NAMES: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        static FILES: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        let (release, until) = mpsc::channel::<()>();
        let until = Arc::new(Mutex::new(until));
        let path = std::env::temp_dir().join(format!("polyloop-hosts-{}", process::id()));
        fs::write(&path, "# one\n10.0.0.1\tfirst Second # third\n").unwrap();
        let file: &'static str = path.to_str().unwrap().to_owned().leak();
        let resolve = |_: &str, port| Ok(vec![addr(port)]);
        polyloop_executor::run(async move {
            // It is still awaited, so it counts.
            let _hanging = hang(&NAMES, &until);
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
                // Names that resemble local ones, and for which the system asks a name server.
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
    fn a_panicking_waker_does_not_end_the_thread() {
        struct Panics;

        impl std::task::Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("on purpose");
            }
        }

        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        let (release, hold) = mpsc::channel::<()>();
        let lookup = ask(&ONE, move || {
            let _ = hold.recv();
            Ok(vec![addr(1)])
        });
        let mut lookup = pin!(lookup.unwrap());
        let waker = Waker::from(Arc::new(Panics));
        assert!(lookup.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(release);
        polyloop_executor::run(async {
            let next = ask(&ONE, || Ok(vec![addr(2)])).unwrap();
            assert_eq!(timeout(LONG, next).await.unwrap().unwrap(), [addr(2)]);
            assert_eq!(lookup.await.unwrap(), [addr(1)]);
            assert_eq!(ONE.threads(), 1);
        })
        .unwrap();
    }

    #[test]
    fn a_hanging_lookup_ends_with_its_future_and_holds_up_neither_others_nor_the_loop() {
        static TWO: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(2));
        let (release, hang) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let hanging = ask(&TWO, move || {
                // Until the test ends.
                let _ = hang.recv();
                Ok(Vec::new())
            });
            let mut hanging = pin!(hanging.unwrap());
            let late = timeout(Duration::from_millis(10), hanging.as_mut()).await;
            assert!(late.is_err());
            for port in 1..20 {
                let addr = SocketAddr::from(([127, 0, 0, 1], port));
                let found = ask(&TWO, move || Ok(vec![addr])).unwrap().await;
                assert_eq!(found.unwrap(), [addr]);
            }
        })
        .unwrap();
        drop(release);
    }

    #[test]
    fn a_name_server_that_never_answers_is_an_error_after_the_limit() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        let (release, hang) = mpsc::channel::<()>();
        // In virtual time the half minute passes at once.
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
        assert_eq!(waited.unwrap(), LIMIT);
        drop(release);
    }

    #[test]
    fn an_answer_without_an_address_is_an_error() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        polyloop_executor::run(async {
            let error = ask_about(&ONE, "empty.example", || Ok(Vec::new())).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("\"empty.example\""), "{error}");
        })
        .unwrap();
    }

    #[test]
    fn questions_queue_for_threads_and_dropped_ones_are_not_asked() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        static N_ASKED: AtomicUsize = AtomicUsize::new(0);
        let (release, hold) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let first = ask(&ONE, move || {
                let _ = hold.recv();
                Ok(Vec::new())
            });
            let first = first.unwrap();
            let count = || {
                N_ASKED.fetch_add(1, Ordering::Relaxed);
                Ok(Vec::new())
            };
            let mut queued: Vec<_> = (0..10).map(|_| ask(&ONE, count).unwrap()).collect();
            queued.truncate(3);
            drop(release);
            first.await.unwrap();
            for lookup in queued {
                lookup.await.unwrap();
            }
            assert_eq!(ONE.threads(), 1);
        })
        .unwrap();
        assert_eq!(N_ASKED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn abandoned_lookups_leave_the_queue() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        let (release, hold) = mpsc::channel::<()>();
        polyloop_executor::run(async move {
            let first = ask(&ONE, move || {
                let _ = hold.recv();
                Ok(Vec::new())
            });
            let first = first.unwrap();
            let kept: Vec<_> = (0..10).map(|_| ask(&ONE, || Ok(Vec::new())).unwrap()).collect();
            let captured = Arc::new(());
            for _ in 0..10_000 {
                let captured = Arc::clone(&captured);
                let question = move || panic!("an abandoned question was asked: {captured:?}");
                drop(ask(&ONE, question).unwrap());
            }
            assert_eq!(Arc::strong_count(&captured), 1, "abandoned questions are in the queue");
            drop(release);
            first.await.unwrap();
            for lookup in kept {
                lookup.await.unwrap();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_lookup_that_panics_is_an_error() {
        static ONE: LazyLock<BlockingPool> = LazyLock::new(|| new_pool(1));
        polyloop_executor::run(async {
            let broken = ask(&ONE, || panic!("on purpose")).unwrap().await;
            assert!(broken.unwrap_err().to_string().contains("panicked"));
            assert!(ask(&ONE, || Ok(Vec::new())).unwrap().await.is_ok());
        })
        .unwrap();
    }
}
