//! A forked child that exits leaves the files of its parent's sockets in place.
//!
//! The only test of its file: a child has one thread, so as few other threads as possible should be active
//! at the fork.

use polyloop_net::{UnixDatagram, UnixListener, UnixStream};
use polyloop_reactor::conformance::in_forked_child;

#[test]
fn a_child_that_drops_its_parents_sockets_removes_no_file() {
    let directory = std::env::temp_dir().join(format!("polyloop-fork-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let (path, other_path) = (directory.join("stream"), directory.join("datagram"));
    let listener = UnixListener::bind(&path).unwrap();
    let datagram = UnixDatagram::bind(&other_path).unwrap();
    let mut sockets = Some((listener, datagram));
    let code = in_forked_child(|| {
        drop(sockets.take());
        true
    });
    assert_eq!(code.unwrap(), 0);
    assert!(path.exists() && other_path.exists(), "the child has removed its parent's file");
    let (listener, datagram) = sockets.expect("the child has taken its own copy");
    polyloop_executor::run(async {
        UnixStream::connect(&path).await.unwrap();
        listener.accept().await.unwrap();
    })
    .unwrap();
    drop((listener, datagram));
    assert!(!path.exists() && !other_path.exists());
    std::fs::remove_dir(&directory).unwrap();
}
