//! Aim: a panicking destructor of an `AsyncFd`'s owner does not affect the loop.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use polyloop::net::{AsyncFd, Direction};
use polyloop::{Backend, Handle, Runtime, spawn, yield_now};

/// A socket whose destructor panics.
struct Bomb(UnixStream);

impl AsFd for Bomb {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a socket's destructor panics");
    }
}

/// Makes a socket that is registered with the running loop.
async fn registered() -> (AsyncFd<Bomb>, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    let fd = AsyncFd::new(Bomb(one)).unwrap();
    let wait = fd.async_io(Direction::Read, |bomb: &Bomb| (&bomb.0).read(&mut [0; 1]));
    polyloop::timeout(Duration::from_millis(1), wait).await.unwrap_err();
    (fd, other)
}

#[test]
fn a_drop_on_another_thread_loses_no_message_and_ends_no_loop() {
    for backend in Backend::available() {
        let runtime = Runtime::builder().backend(*backend).build().unwrap();
        let handle = runtime.handle();
        runtime
            .block_on(async {
                let (fd, _other) = registered().await;
                let handle = Handle::current().unwrap();
                let sent = thread::spawn(move || {
                    drop(fd);
                    handle.spawn(async { 7 })
                });
                assert_eq!(sent.join().unwrap().await.unwrap(), 7, "{backend}");
                spawn(yield_now()).await.unwrap();
            })
            .unwrap();
        // The message is read when the runtime is dropped.
        let (fd, _other) = runtime.block_on(registered()).unwrap();
        let sent = thread::spawn(move || {
            drop(fd);
            handle.spawn(async { 7 })
        });
        let mut task = sent.join().unwrap();
        drop(runtime);
        let joined = task.join_timeout(Duration::from_secs(20)).expect("the mailbox is closed");
        assert!(joined.unwrap_err().is_cancelled(), "{backend}");
    }
}

#[test]
fn a_drop_on_the_loops_thread_panics_in_the_caller() {
    polyloop::run(async {
        let (fd, _other) = registered().await;
        assert!(spawn(async move { drop(fd) }).await.unwrap_err().is_panic());
        assert_eq!(polyloop::runtime::metrics().sources, 0);
    })
    .unwrap();
}
