//! Unix-domain sockets, credentials and descriptor passing, on every backend.

mod common;

use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use polyloop::Backend;
use polyloop::net::{UnixDatagram, UnixListener, UnixStream};

use common::{is_alone, open_fds, run_on};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::{an_abstract_name_needs_no_file, messages_keep_their_boundaries_and_have_an_end};

    crate::backends!(
        an_abstract_name_needs_no_file,
        messages_keep_their_boundaries_and_have_an_end,
    );
}

backends!(
    a_client_and_a_server_exchange_messages,
    a_pair_exchanges_messages_and_ends,
    a_mebibyte_arrives_unchanged,
    vectored_writes_and_reads_keep_the_order,
    peek_leaves_the_data,
    halves_work_separately_and_reunited,
    writing_to_a_closed_peer_is_an_error_without_a_signal,
    the_peers_credentials_are_available,
    the_socket_file_is_removed_with_its_listener,
    the_socket_file_of_another_listener_stays,
    a_stale_socket_file_is_replaced_and_an_active_one_is_not,
    a_path_that_is_too_long_is_an_error,
    a_full_queue_is_waited_for,
    descriptors_cross_a_stream,
    descriptors_beyond_the_maximum_are_closed,
    reading_past_descriptors_does_not_stop_at_them,
    a_dropped_receive_has_taken_no_descriptor,
    try_methods_receive_without_waiting,
    datagrams_keep_their_boundaries,
    a_datagram_has_its_senders_address,
    a_full_receiver_is_waited_for_without_spinning,
    descriptors_cross_with_datagrams,
    streams_convert_from_std_and_back,
);

/// A unique path without a file.
fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("polyloop-{}-{n}.sock", std::process::id()))
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn a_client_and_a_server_exchange_messages(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let listener = UnixListener::bind(&path).unwrap();
        let accepting = polyloop::spawn(async move {
            let (stream, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            let mut buf = [0; 5];
            stream.read_exact(&mut buf).await.unwrap();
            stream.write_all(&buf).await.unwrap();
        });
        polyloop::yield_now().await;
        let client = UnixStream::connect(&path).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        client.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        client.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
        accepting.await.unwrap();
        assert_eq!(client.read(&mut buf).await.unwrap(), 0);
    });
}

fn a_pair_exchanges_messages_and_ends(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let echo = polyloop::spawn(async move {
            let mut buf = [0; 3];
            loop {
                match other.read(&mut buf).await.unwrap() {
                    0 => break,
                    n => other.write_all(&buf[..n]).await.unwrap(),
                }
            }
        });
        one.write_all(b"some words").await.unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 10];
        one.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"some words");
        assert_eq!(one.read(&mut buf).await.unwrap(), 0);
        echo.await.unwrap();
    });
}

fn a_mebibyte_arrives_unchanged(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let mut sent = vec![0; 1 << 20];
        fastrand::Rng::with_seed(5).fill(&mut sent);
        let bytes = sent.clone();
        let sending = polyloop::spawn(async move { one.write_all(&bytes).await.unwrap() });
        let mut received = vec![0; 1 << 20];
        other.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
        sending.await.unwrap();
    });
}

fn vectored_writes_and_reads_keep_the_order(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let bufs = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(one.write_vectored(&bufs).await.unwrap(), 6);
        let (mut a, mut b) = ([0; 2], [0; 8]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(other.read_vectored(bufs).await.unwrap(), 6);
        assert_eq!((&a, &b[..4]), (b"on", &b"etwo"[..]));
    });
}

fn peek_leaves_the_data(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(poll_once(other.peek(&mut [0])).await.is_none());
        one.write_all(b"abc").await.unwrap();
        let mut buf = [0; 8];
        assert_eq!(other.peek(&mut buf).await.unwrap(), 3);
        assert_eq!(other.read(&mut buf).await.unwrap(), 3);
    });
}

fn halves_work_separately_and_reunited(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let (reader, writer) = other.into_split();
        let echo = polyloop::spawn(async move {
            let mut buf = [0; 8];
            let n = reader.read(&mut buf).await.unwrap();
            writer.write_all(&buf[..n]).await.unwrap();
            reader.reunite(writer).unwrap()
        });
        let (mut buf, (reader, writer)) = ([0; 5], one.split());
        writer.write_all(b"hello").await.unwrap();
        reader.read_exact(&mut buf).await.unwrap();
        let other = echo.await.unwrap();
        let (_, writer) = other.into_split();
        drop(writer);
        assert_eq!(one.read(&mut buf).await.unwrap(), 0);
    });
}

fn writing_to_a_closed_peer_is_an_error_without_a_signal(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        assert_eq!(one.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let error = one.write_vectored(&[IoSlice::new(b"x")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

fn the_peers_credentials_are_available(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap());
        for stream in [&client, &server] {
            let peer = stream.peer_credentials().unwrap();
            assert_eq!(peer.uid, owner);
            if let Some(pid) = peer.pid {
                assert_eq!(pid as u32, std::process::id());
            }
        }
        assert!(UnixDatagram::unbound().unwrap().peer_credentials().is_err());
    });
}

fn the_socket_file_is_removed_with_its_listener(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let listener = UnixListener::bind(&path).unwrap();
        assert!(path.exists());
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert!(path.exists(), "the failed one removed the other's file");
        drop(listener);
        assert!(!path.exists());
        let error = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);

        let datagram = UnixDatagram::bind(&path).unwrap();
        assert!(path.exists());
        drop(datagram);
        assert!(!path.exists());
    });
}

fn the_socket_file_of_another_listener_stays(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let first = UnixListener::bind(&path).unwrap();
        // Another listener replaces the file.
        let moved = path.with_extension("old");
        fs::rename(&path, &moved).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(UnixStream::connect(&path).await.unwrap());
        second.accept().await.unwrap();
        fs::remove_file(&moved).unwrap();

        // A replaced listener stays usable too.
        drop(second.into_std().unwrap());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    });
}

fn a_stale_socket_file_is_replaced_and_an_active_one_is_not(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        // Stale, as after a killed program.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let listener = UnixListener::bind_or_replace(&path).unwrap();
        let error = UnixListener::bind_or_replace(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // The connection of the one that checked.
        drop(listener.accept().await.unwrap());
        drop(listener);

        fs::write(&path, "not a socket").unwrap();
        let error = UnixListener::bind_or_replace(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
        fs::remove_file(&path).unwrap();
    });
}

fn a_path_that_is_too_long_is_an_error(backend: Backend) {
    run_on(backend, async {
        let path = std::env::temp_dir().join("x".repeat(200));
        for error in [
            UnixListener::bind(&path).unwrap_err(),
            UnixDatagram::bind(&path).unwrap_err(),
            UnixStream::connect(&path).await.unwrap_err(),
            UnixStream::connect("").await.unwrap_err(),
            UnixStream::connect("a\0b").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    });
}

fn a_full_queue_is_waited_for(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut clients = Vec::new();
        let waiting = loop {
            let mut connecting = Box::pin(UnixStream::connect(path.clone()));
            match poll_once(connecting.as_mut()).await {
                Some(client) => clients.push(client.unwrap()),
                None => break connecting,
            }
        };
        let listener = UnixListener::from_std(socket.into()).unwrap();
        let accepting = polyloop::spawn(async move {
            let mut streams = Vec::new();
            loop {
                streams.push(listener.accept().await.unwrap());
            }
        });
        waiting.await.unwrap();
        accepting.abort();
        fs::remove_file(&path).unwrap();
    });
}

/// A file with `text` in it, which is deleted when it is closed.
fn file_with(text: &str) -> File {
    let path = fresh_path();
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn descriptors_cross_a_stream(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let receiving = polyloop::spawn(async move {
            let mut buf = [0; 8];
            let received = other.recv_fds(&mut buf, 4).await.unwrap();
            assert_eq!((received.len, received.is_truncated), (5, false));
            let mut texts = Vec::new();
            for fd in received.fds {
                let flags = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
                if let Ok(flags) = flags {
                    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
                    let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
                    assert_ne!(flags & libc::O_CLOEXEC as u32, 0);
                }
                let mut text = String::new();
                File::from(fd).read_to_string(&mut text).unwrap();
                texts.push(text);
            }
            texts
        });
        polyloop::yield_now().await;
        let files = [file_with("first"), file_with("second")];
        let fds = files.each_ref().map(|file| file.as_fd());
        assert_eq!(one.send_fds(b"files", &fds).await.unwrap(), 5);
        drop(files);
        assert_eq!(receiving.await.unwrap(), ["first", "second"]);

        let error = one.send_fds(b"", &[one.as_fd()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

fn descriptors_beyond_the_maximum_are_closed(backend: Backend) {
    if !is_alone(&format!("on_{backend}::descriptors_beyond_the_maximum_are_closed")) {
        return;
    }
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(poll_once(other.recv_fds(&mut [0], 2)).await.is_none());
        let before = open_fds();
        for _ in 0..100 {
            one.send_fds(b"x", &[one.as_fd(); 5]).await.unwrap();
            let received = other.recv_fds(&mut [0; 8], 2).await.unwrap();
            assert!(received.is_truncated && received.fds.len() == 2, "{received:?}");
        }
        // Not requested.
        for _ in 0..100 {
            one.send_fds(b"x", &[one.as_fd(); 5]).await.unwrap();
            assert_eq!(other.read(&mut [0; 8]).await.unwrap(), 1);
        }
        // Never received.
        one.send_fds(b"x", &[file_with("").as_fd(); 5]).await.unwrap();
        assert_eq!(open_fds(), before);
    });
}

fn reading_past_descriptors_does_not_stop_at_them(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        // Registered, so that readiness is remembered.
        assert!(poll_once(other.read(&mut [0])).await.is_none());
        one.write_all(b"before").await.unwrap();
        one.send_fds(b"with", &[one.as_fd()]).await.unwrap();
        one.write_all(b"after").await.unwrap();
        // All of it has arrived when the loop polls for events, and the kernel ends a read at the descriptor.
        polyloop::yield_now().await;
        let mut buf = [0; 15];
        other.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"beforewithafter");
    });
}

fn a_dropped_receive_has_taken_no_descriptor(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        let mut buf = [0; 8];
        for i in 0..50 {
            assert!(poll_once(other.recv_fds(&mut buf, 1)).await.is_none());
            one.send_fds(&[i], &[one.as_fd()]).await.unwrap();
            let received = loop {
                if let Some(received) = poll_once(other.recv_fds(&mut buf, 1)).await {
                    break received.unwrap();
                }
                polyloop::yield_now().await;
            };
            assert_eq!((received.len, received.fds.len(), buf[0]), (1, 1, i));
        }
    });
}

fn try_methods_receive_without_waiting(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut buf = [0; 8];
        let would_block = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::WouldBlock);
        would_block(other.try_recv(&mut buf).unwrap_err());
        would_block(other.try_recv_from(&mut buf).unwrap_err());
        would_block(other.try_peek_msg(&mut buf).unwrap_err());
        assert_eq!(one.try_send(b"1").unwrap(), 1);
        assert_eq!(one.try_send(b"22").unwrap(), 2);
        assert_eq!(other.try_peek_msg(&mut buf).unwrap().len, 1);
        assert_eq!(other.try_recv(&mut buf).unwrap(), 1);
        let (n_bytes, from) = other.try_recv_from(&mut buf).unwrap();
        assert!(n_bytes == 2 && from.is_unnamed());
        assert!(other.take_error().unwrap().is_none());
        drop(one);
    });
}

fn datagrams_keep_their_boundaries(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixDatagram::pair().unwrap();
        for bytes in [&b"first"[..], b"", b"third one"] {
            one.send(bytes).await.unwrap();
        }
        let mut buf = [0; 5];
        assert_eq!(other.peek_msg(&mut buf).await.unwrap().len, 5);
        assert_eq!(other.recv(&mut buf).await.unwrap(), 5);
        let empty = other.recv_msg(&mut buf).await.unwrap();
        assert_eq!((empty.len, empty.is_truncated), (0, false));
        let cut = other.recv_msg(&mut buf).await.unwrap();
        assert_eq!((cut.len, cut.is_truncated), (5, true));
        assert_eq!(other.try_recv_msg(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(other);
        assert!(one.send(b"nobody").await.is_err());
    });
}

fn a_datagram_has_its_senders_address(backend: Backend) {
    run_on(backend, async {
        let (here, there) = (fresh_path(), fresh_path());
        let one = UnixDatagram::bind(&here).unwrap();
        let other = UnixDatagram::bind(&there).unwrap();
        one.send_to(b"hello", &there).await.unwrap();
        let mut buf = [0; 8];
        let (n, from) = other.recv_from(&mut buf).await.unwrap();
        assert_eq!((n, from.as_pathname()), (5, Some(&*here)));
        UnixDatagram::unbound().unwrap().send_to(b"who?", &there).await.unwrap();
        assert!(other.recv_from(&mut buf).await.unwrap().1.is_unnamed());

        other.connect(&here).unwrap();
        other.send(b"back").await.unwrap();
        assert_eq!(one.recv(&mut buf).await.unwrap(), 4);
        let error = one.send_to(b"x", fresh_path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

fn a_full_receiver_is_waited_for_without_spinning(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        let receiver = UnixDatagram::bind(&path).unwrap();
        let one = UnixDatagram::unbound().unwrap();
        let mut n_sent = 0_u32;
        // Until it would block.
        while poll_once(one.send_to(&n_sent.to_le_bytes(), &path)).await.is_some() {
            n_sent += 1;
        }
        let full = one.try_send_to(&[0], &path).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let next = n_sent.to_le_bytes();
        let late = one.send_to(&next, &path);
        let before = polyloop::runtime::metrics().polls;
        let late = polyloop::timeout(Duration::from_millis(200), late).await;
        assert!(late.is_err());
        let n_polls = polyloop::runtime::metrics().polls - before;
        assert!(n_polls < 100, "{n_polls} polls while waiting");

        let sending = polyloop::spawn(async move {
            for i in n_sent..n_sent + 100 {
                one.send_to(&i.to_le_bytes(), &path).await.unwrap();
            }
        });
        let mut buf = [0; 4];
        for i in 0..n_sent + 100 {
            assert_eq!(receiver.recv(&mut buf).await.unwrap(), 4);
            assert_eq!(u32::from_le_bytes(buf), i);
        }
        sending.await.unwrap();
    });
}

fn descriptors_cross_with_datagrams(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixDatagram::pair().unwrap();
        let file = file_with("content");
        one.send_fds(b"a", &[file.as_fd()]).await.unwrap();
        one.send_fds(b"b", &[]).await.unwrap();
        let mut buf = [0; 4];
        let received = other.recv_fds(&mut buf, 1).await.unwrap();
        let mut text = String::new();
        let [fd] = <[_; 1]>::try_from(received.fds).unwrap();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(other.recv_fds(&mut buf, 1).await.unwrap().fds.is_empty());
    });
}

fn streams_convert_from_std_and_back(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixStream::pair().unwrap();
        assert!(poll_once(other.read(&mut [0])).await.is_none());
        let mut other = other.into_std().unwrap();
        other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        one.write_all(b"x").await.unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 1);
        let other = UnixStream::from_std(other).unwrap();
        assert!(poll_once(other.read(&mut [0])).await.is_none());
        one.write_all(b"y").await.unwrap();
        assert_eq!(other.read(&mut [0]).await.unwrap(), 1);
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn an_abstract_name_needs_no_file(backend: Backend) {
    use std::os::linux::net::SocketAddrExt;

    run_on(backend, async move {
        let name = format!("\0polyloop {} {backend}", std::process::id());
        let listener = UnixListener::bind(&name).unwrap();
        assert_eq!(UnixListener::bind(&name).unwrap_err().kind(), ErrorKind::AddrInUse);
        let client = UnixStream::connect(&name).await.unwrap();
        let addr = client.peer_addr().unwrap();
        assert_eq!(addr.as_abstract_name(), Some(&name.as_bytes()[1..]));
        drop(listener.accept().await.unwrap());
        drop(listener);
        assert!(UnixStream::connect(&name).await.is_err());
        UnixListener::bind(&name).unwrap();

        let receiver = UnixDatagram::bind(format!("{name} datagram")).unwrap();
        let sender = UnixDatagram::bind(format!("{name} sender")).unwrap();
        sender.send_to(b"x", format!("{name} datagram")).await.unwrap();
        let (_, from) = receiver.recv_from(&mut [0]).await.unwrap();
        assert!(from.as_abstract_name().unwrap().ends_with(b" sender"));
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn messages_keep_their_boundaries_and_have_an_end(backend: Backend) {
    use polyloop::net::{UnixSeqpacket, UnixSeqpacketListener};

    run_on(backend, async {
        let path = fresh_path();
        let listener = UnixSeqpacketListener::bind(&path).unwrap();
        let serving = polyloop::spawn(async move {
            let (server, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            let mut buf = [0; 8];
            loop {
                let received = server.recv_msg(&mut buf).await.unwrap();
                if received.len == 0 {
                    break;
                }
                let answer = if received.is_truncated { &b"cut"[..] } else { b"whole" };
                server.send(answer).await.unwrap();
            }
        });
        polyloop::yield_now().await;
        let client = UnixSeqpacket::connect(&path).await.unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        assert!(client.local_addr().unwrap().is_unnamed());
        let mut buf = [0; 8];
        for (message, answer) in [(&b"short"[..], &b"whole"[..]), (b"much longer", b"cut")] {
            client.send(message).await.unwrap();
            let n = client.recv(&mut buf).await.unwrap();
            assert_eq!(&buf[..n], answer);
        }
        assert_eq!(client.peer_credentials().unwrap().pid, Some(std::process::id() as i32));
        client.shutdown(Shutdown::Write).unwrap();
        serving.await.unwrap();
        assert_eq!(client.recv(&mut buf).await.unwrap(), 0);
        assert_eq!(client.send(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(!path.exists());

        // A stale file is replaced, whichever process left it, and an active listener is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = UnixSeqpacketListener::bind_or_replace(&path).unwrap();
        let error = UnixSeqpacketListener::bind_or_replace(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        drop(listener);

        let (one, other) = UnixSeqpacket::pair().unwrap();
        assert_eq!(other.try_recv_msg(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(one.try_send(b"now").unwrap(), 3);
        other.readable().await.unwrap();
        assert_eq!(other.peek_msg(&mut buf).await.unwrap().len, 3);
        assert_eq!(other.try_peek_msg(&mut buf).unwrap().len, 3);
        assert_eq!(other.try_recv_msg(&mut buf).unwrap().len, 3);
        assert_eq!(one.try_send(b"more").unwrap(), 4);
        assert_eq!(other.try_recv(&mut buf).unwrap(), 4);
        one.send_fds(b"fd", &[one.as_fd()]).await.unwrap();
        assert_eq!(other.recv_fds(&mut buf, 1).await.unwrap().fds.len(), 1);
    });
}
