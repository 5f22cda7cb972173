//! Runs the examples as processes with failing system calls.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SIGTERM, kill};

/// A test that takes this long has failed.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Builds the preloaded library, once for all tests of this program.
fn preload() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/preload.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("polyloop_faults.so");
        // Under a temporary name first: another run of this program may be using the library.
        let built = library.with_extension(format!("{}", std::process::id()));
        // It is compiled for the examples' target: `CFLAGS` has the options if that is not the target of `cc`.
        let (compiler, flags) = (std::env::var("CC"), std::env::var("CFLAGS"));
        let compiled = Command::new(compiler.as_deref().unwrap_or("cc"))
            .args(flags.unwrap_or_default().split_whitespace())
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .arg(&built)
            .args([source, "-ldl"])
            .status();
        assert!(compiled.expect("cc, which Rust links with").success(), "cc failed");
        fs::rename(&built, &library).expect("the library can be renamed");
        library
    })
}

/// Returns the path of an example, which `cargo test` has built beside this program.
fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

fn faulty(name: &str, rules: &str) -> Command {
    let mut command = Command::new(example(name));
    command.env("LD_PRELOAD", preload()).env("POLYLOOP_FAULTS", rules);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// An `echo_server` in a separate process.
pub(crate) struct Server {
    child: Child,
    addr: SocketAddr,
    rules: String,
    /// Its stderr.
    complaints: Option<thread::JoinHandle<std::io::Result<String>>>,
}

impl Server {
    /// Starts a server, which must print its address.
    pub(crate) fn start(backend: &str, rules: &str) -> Server {
        Server::start_example("echo_server", backend, rules)
    }

    /// Starts an example that takes the options of `echo_server`.
    pub(crate) fn start_example(name: &str, backend: &str, rules: &str) -> Server {
        let mut command = faulty(name, rules);
        command.args(["--addr", "127.0.0.1:0", "--backend", backend]);
        let mut child = command.spawn().expect("the server starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line of text");
        // Further output is ignored, but must not fill the pipes.
        thread::spawn(move || std::io::read_to_string(stdout));
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let complaints = thread::spawn(move || std::io::read_to_string(stderr));
        let addr = line.split(' ').nth(2).and_then(|addr| addr.parse().ok());
        let Some(addr) = addr else {
            let status = child.wait();
            panic!("{backend}, {rules}: {status:?}, {line:?}, {:?}", complaints.join())
        };
        Server { child, addr, rules: rules.to_owned(), complaints: Some(complaints) }
    }

    /// Runs a server that cannot start, and returns its output.
    ///
    /// # Panics
    /// Panics if it starts.
    pub(crate) fn refused(backend: &str, rules: &str) -> Output {
        Server::refused_example("echo_server", backend, rules)
    }

    /// Runs an example that cannot start, and returns its output.
    pub(crate) fn refused_example(name: &str, backend: &str, rules: &str) -> Output {
        let mut command = faulty(name, rules);
        command.args(["--addr", "127.0.0.1:0", "--backend", backend]);
        let mut child = command.spawn().expect("the server is run");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        // Returns at its end, or as soon as the server listens.
        stdout.read_line(&mut line).expect("a line of text");
        if !line.is_empty() {
            child.kill().expect("it is our child");
        }
        let output = child.wait_with_output().expect("it is our child");
        assert!(line.is_empty(), "{backend}, {rules}: it starts: {line}");
        output
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends SIGTERM, and panics if the server does not exit successfully.
    pub(crate) fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        kill(pid, SIGTERM).expect("it is still running");
        let status = self.wait();
        assert!(status.success(), "{}: {status}", self.rules);
    }

    /// Waits until it exits, and returns its output.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.wait();
        let complaints = self.complaints.take().expect("this is called once").join();
        (status, complaints.expect("it is read").expect("it is text"))
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIME_LIMIT;
        loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "{}: it does not stop", self.rules),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs one test of this program in a separate process, under `rules`, with [`UNDER`] set.
pub(crate) fn run_test(test: &str, rules: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--nocapture"]).env(UNDER, "1");
    command.env("LD_PRELOAD", preload()).env("POLYLOOP_FAULTS", rules);
    command.output().expect("this program can be run again")
}

/// Set for tests that [`run_test`] runs.
pub(crate) const UNDER: &str = "POLYLOOP_UNDER_FAULTS";

/// Runs an `echo_client` against `server` for a moment.
pub(crate) fn run_client(server: &Server, backend: &str, rules: &str) -> Output {
    let mut command = faulty("echo_client", rules);
    command.args(["--addr", &server.addr.to_string(), "--backend", backend]);
    command.args(["--connections", "4", "--size", "333", "--in-flight", "3", "--seconds", "0.1"]);
    command.output().expect("the client is run")
}
