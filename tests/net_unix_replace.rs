//! Aim: of several listeners that try to replace a stale socket file, one succeeds, and its file stays.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Barrier;
use std::thread;

use polyloop::net::UnixListener;

use common::{process, role};

/// A temporary directory, removed with its contents.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("polyloop-{test}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn leave_behind(path: &Path) {
    drop(net::UnixListener::bind(path).unwrap());
}

/// Replaces the file at `path`; returns `None` if another listener was first.
fn replace(path: &Path) -> Result<Option<UnixListener>, String> {
    match UnixListener::bind_or_replace(path) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The number of races. `POLYLOOP_REPLACE_ROUNDS` overrides it.
fn n_rounds() -> usize {
    std::env::var("POLYLOOP_REPLACE_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap())
}

#[test]
fn one_of_many_threads_replaces_a_stale_socket_file() {
    let directory = Directory::new("threads");
    let path = directory.0.join("socket");
    let (start, end) = (Barrier::new(8), Barrier::new(8));
    for round in 0..n_rounds() {
        // In every other round there is no file to replace.
        if round % 2 == 0 {
            leave_behind(&path);
        }
        let n_listeners: usize = thread::scope(|scope| {
            let race = || {
                start.wait();
                let listener = replace(&path);
                // Listeners stay open until all have tried.
                end.wait();
                usize::from(listener.unwrap().is_some())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(n_listeners, 1, "round {round}");
        assert!(directory.names().is_empty(), "{:?}", directory.names());
    }
}

#[test]
fn one_of_several_processes_replaces_a_stale_socket_file() {
    const NAME: &str = "one_of_several_processes_replaces_a_stale_socket_file";
    if let Some(path) = role() {
        let listener = replace(Path::new(&path)).unwrap();
        println!("listening: {}", listener.is_some());
        // A listener stays open until all have tried: until its stdin is closed.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        return;
    }
    let directory = Directory::new("processes");
    let path = directory.0.join("socket");
    for _ in 0..10 {
        leave_behind(&path);
        let start = |_| {
            let mut command = process(NAME, path.to_str().unwrap());
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..6).map(start).collect();
        let mut n_listeners = 0;
        let mut outputs = Vec::new();
        for child in &mut children {
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            while !line.contains("listening: ") {
                line.clear();
                assert_ne!(output.read_line(&mut line).unwrap(), 0, "no answer");
            }
            n_listeners += usize::from(line.contains("listening: true"));
            outputs.push(output);
        }
        for (mut child, mut output) in children.into_iter().zip(outputs) {
            drop(child.stdin.take());
            std::io::copy(&mut output, &mut std::io::sink()).unwrap();
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(n_listeners, 1);
        // Refused processes leave the listener's file, which the listener removes.
        assert!(directory.names().is_empty(), "{:?}", directory.names());
    }
}

#[test]
fn a_stale_lock_file_blocks_no_one() {
    let directory = Directory::new("lock");
    let path = directory.0.join("socket");
    leave_behind(&path);
    fs::write(directory.0.join("socket.lock"), "").unwrap();
    let listener = replace(&path).unwrap().expect("the lock is held by no process");
    assert_eq!(directory.names(), ["socket"]);
    drop(listener);
}

#[test]
fn a_lock_that_cannot_be_taken_is_named() {
    let directory = Directory::new("named");
    let path = directory.0.join("socket");
    leave_behind(&path);
    fs::create_dir(directory.0.join("socket.lock")).unwrap();
    let error = UnixListener::bind_or_replace(&path).unwrap_err();
    assert!(error.to_string().contains("socket.lock"), "{error}");
    assert!(path.exists());
}
