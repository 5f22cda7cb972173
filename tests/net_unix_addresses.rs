//! Aim: a peer of a Unix socket may have any address, and no address ends the server.
//!
//! A path may fill the whole address: 108 bytes on Linux, without the NUL that shorter ones end with.
#![cfg(target_os = "linux")]

mod common;

use std::cell::RefCell;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use polyloop::Backend;
use polyloop::net::{
    Listener, Server, UnixDatagram, UnixListener, UnixSeqpacket, UnixSeqpacketListener, UnixStream,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use common::{process, role, run_on};

backends!(
    a_server_over_streams_serves_peers_of_any_name,
    a_server_over_messages_serves_peers_of_any_name,
    accept_returns_the_full_name_of_the_peer,
    a_datagrams_sender_may_have_any_name,
);

/// The longest path that the kernel accepts.
const FULL_LEN: usize = 108;

/// A temporary directory, removed with its contents.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str, backend: Backend) -> Directory {
        let name = format!("polyloop-{test}-{backend}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns a path in the directory of exactly [`FULL_LEN`] bytes.
    fn full(&self) -> PathBuf {
        let len = self.file("").as_os_str().len();
        let path = self.file(&"x".repeat(FULL_LEN - len));
        assert_eq!(path.as_os_str().len(), FULL_LEN);
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A peer's name.
enum Name {
    None,
    Auto,
    Abstract(Vec<u8>),
    Path(PathBuf),
}

impl Name {
    /// A name of each kind, and the longest of each.
    fn all(directory: &Directory) -> Vec<Name> {
        vec![
            Name::None,
            Name::Auto,
            Name::Abstract(format!("polyloop\0{}", directory.0.display()).into_bytes()),
            Name::Abstract([&directory.0.as_os_str().as_bytes()[..20], &[0; 87]].concat()),
            Name::Path(directory.file("short")),
            Name::Path(directory.full()),
        ]
    }

    /// Makes a blocking socket with this name.
    fn bind(&self, socket_type: SocketType) -> rustix::fd::OwnedFd {
        let socket =
            socket_with(AddressFamily::UNIX, socket_type, SocketFlags::CLOEXEC, None).unwrap();
        let addr = match self {
            Name::None => return socket,
            Name::Auto => SocketAddrUnix::new_unnamed(),
            Name::Abstract(name) => SocketAddrUnix::new_abstract_name(name).unwrap(),
            Name::Path(path) => SocketAddrUnix::new(path).unwrap(),
        };
        rustix::net::bind(&socket, &addr).unwrap();
        socket
    }

    fn check(&self, addr: &SocketAddr) {
        match self {
            Name::None => assert!(addr.is_unnamed(), "{addr:?}"),
            Name::Auto => assert!(addr.as_abstract_name().is_some_and(|name| name.len() == 5)),
            Name::Abstract(name) => assert_eq!(addr.as_abstract_name(), Some(&name[..])),
            Name::Path(path) => assert_eq!(addr.as_pathname(), Some(&**path)),
        }
    }
}

/// Makes a blocking connection to `path` from a socket of each name, one after another.
fn connect_all(names: &[Name], socket_type: SocketType, path: &Path) -> Vec<rustix::fd::OwnedFd> {
    let connect = |name: &Name| {
        let socket = name.bind(socket_type);
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        socket
    };
    names.iter().map(connect).collect()
}

/// Runs a server with a client of each name, and then one without a name.
async fn serve_all<L: Listener<Addr = SocketAddr>>(
    server: Server<L>,
    handler: impl AsyncFn(L::Stream) -> io::Result<()> + 'static,
    names: &[Name],
    socket_type: SocketType,
    path: &Path,
) {
    let peers = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&peers);
    let stop = server.shutdown_handle();
    let serving = polyloop::spawn(server.serve(async move |stream, session| {
        seen.borrow_mut().push(session.peer().clone());
        handler(stream).await
    }));
    let clients = connect_all(names, socket_type, path);
    while peers.borrow().len() < names.len() {
        assert!(!serving.is_finished(), "the server has ended: {:?}", serving.await);
        polyloop::yield_now().await;
    }
    drop(clients);
    for (name, peer) in names.iter().zip(&*peers.borrow()) {
        name.check(peer);
    }
    stop.shutdown();
    assert_eq!(serving.await.unwrap().unwrap().served, names.len() as u64);
}

fn a_server_over_streams_serves_peers_of_any_name(backend: Backend) {
    run_on(backend, async {
        let directory = Directory::new("streams", backend);
        let path = directory.file("server");
        let server = Server::from_listener(UnixListener::bind(&path).unwrap());
        let handler = async |stream: UnixStream| stream.read(&mut [0]).await.map(drop);
        serve_all(server, handler, &Name::all(&directory), SocketType::STREAM, &path).await;
    });
}

fn a_server_over_messages_serves_peers_of_any_name(backend: Backend) {
    run_on(backend, async {
        let directory = Directory::new("messages", backend);
        let path = directory.file("server");
        let server = Server::from_listener(UnixSeqpacketListener::bind(&path).unwrap());
        let handler = async |stream: UnixSeqpacket| stream.recv(&mut [0]).await.map(drop);
        serve_all(server, handler, &Name::all(&directory), SocketType::SEQPACKET, &path).await;
    });
}

fn accept_returns_the_full_name_of_the_peer(backend: Backend) {
    run_on(backend, async {
        let directory = Directory::new("accept", backend);
        let (streams, messages) = (directory.file("streams"), directory.file("messages"));
        let names = Name::all(&directory);

        let listener = UnixListener::bind(&streams).unwrap();
        let clients = connect_all(&names, SocketType::STREAM, &streams);
        for name in &names {
            let (stream, peer) = listener.accept().await.unwrap();
            name.check(&peer);
            name.check(&stream.peer_addr().unwrap());
        }
        drop(clients);
        for name in &names {
            if let Name::Path(path) = name {
                std::fs::remove_file(path).unwrap();
            }
        }

        let listener = UnixSeqpacketListener::bind(&messages).unwrap();
        let _clients = connect_all(&names, SocketType::SEQPACKET, &messages);
        for name in &names {
            let (stream, peer) = listener.accept().await.unwrap();
            name.check(&peer);
            name.check(&stream.peer_addr().unwrap());
        }
    });
}

fn a_datagrams_sender_may_have_any_name(backend: Backend) {
    run_on(backend, async {
        let directory = Directory::new("datagrams", backend);
        let path = directory.file("receiver");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let to = SocketAddrUnix::new(&path).unwrap();
        for name in &Name::all(&directory) {
            let sender = name.bind(SocketType::DGRAM);
            let flags = rustix::net::SendFlags::empty();
            rustix::net::sendto(&sender, b"hello", flags, &to).unwrap();
            let (n_bytes, from) = receiver.recv_from(&mut [0; 8]).await.unwrap();
            assert_eq!(n_bytes, 5);
            name.check(&from);
            rustix::net::sendto(&sender, b"hello", flags, &to).unwrap();
            assert_eq!(receiver.recv_msg(&mut [0; 8]).await.unwrap().len, 5);
        }
    });
}

/// A process outside this one's PID namespace has a user ID and no process ID, as the host has in a container.
#[test]
fn a_peer_in_another_pid_namespace_has_credentials_without_a_process_id() {
    const NAME: &str = "a_peer_in_another_pid_namespace_has_credentials_without_a_process_id";
    if let Some(path) = role() {
        let seen = run_on(Backend::Epoll, async {
            let stream = UnixStream::connect(&path).await.unwrap();
            stream.peer_credentials().unwrap()
        });
        assert_eq!(seen.pid, None);
        println!("the peer's user is {}", seen.uid);
        return;
    }
    let directory = Directory::new("namespace", Backend::Epoll);
    let path = directory.file("server");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let inside = process(NAME, path.to_str().unwrap());
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(inside.get_program()).args(inside.get_args());
    for (key, value) in inside.get_envs() {
        command.env(key, value.unwrap());
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return println!("not run: there is no unshare(1): {error}"),
    };
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complained.contains("unshare failed") {
        return println!("not run: {complained}");
    }
    let user = rustix::process::getuid().as_raw();
    assert!(said.contains(&format!("the peer's user is {user}")), "{said}{complained}");
}
