//! Aim: copies of polyloop in one process, such as in plugins, do not take signals from each other, and leave
//! nothing behind, in whatever order they stop and are unloaded.
//!
//! `host.c` is built with the C compiler that Rust links with. Each script is a separate process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;
use std::{env, fs};

const SIGUSR1: i32 = 10;

/// Three copies of the library, which the loader treats as different ones, and the host.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    fs::create_dir_all(&folder).unwrap();
    // The library is beside this test program.
    let library = env::current_exe().unwrap().with_file_name("libpolyloop_plugins.so");
    for copy in 0..3 {
        let path = folder.join(format!("copy{copy}.so"));
        // A new file, in case the last run has not ended.
        let _ = fs::remove_file(&path);
        fs::copy(&library, path).unwrap();
    }
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/host.c");
    // `CFLAGS` has the options if Rust compiles for another target than `cc`.
    let (compiler, flags) = (env::var("CC"), env::var("CFLAGS"));
    let built = Command::new(compiler.as_deref().unwrap_or("cc"))
        .args(flags.unwrap_or_default().split_whitespace())
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror"])
        .arg(source)
        .arg("-o")
        .arg(folder.join("host"))
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    folder
});

/// Runs a script: see `host.c`.
fn run(script: &str) -> ExitStatus {
    let folder = &*FOLDER;
    let mut steps: Vec<OsString> = Vec::new();
    for step in script.split_whitespace() {
        steps.push(step.into());
        if let Some(copy) = step.strip_prefix('+') {
            steps.push(folder.join(format!("copy{copy}.so")).into());
        }
    }
    Command::new(folder.join("host")).args(steps).status().unwrap()
}

#[track_caller]
fn assert_runs(script: &str) {
    let status = run(script);
    assert!(status.success(), "{script}: {status}");
}

/// Asserts that the script ends with the signal's default action, which ends the process.
#[track_caller]
fn assert_ends_by_the_signal(script: &str) {
    let status = run(script);
    assert_eq!(status.signal(), Some(SIGUSR1), "{script}: {status}");
}

#[test]
fn copies_that_listen_concurrently_are_all_notified() {
    assert_runs("+0 l0 +1 l1 r =11 +2 l2 r =111 s1 r =1.1 l1 r =111 s2 r =11 s0 r =.1");
}

#[test]
fn copies_that_stop_in_the_order_they_started_leave_the_default_action() {
    assert_ends_by_the_signal("+0 l0 +1 l1 r =11 s0 r =.1 s1 r");
    assert_ends_by_the_signal("+0 l0 +1 l1 +2 l2 s0 s1 r =..1 s2 r");
    assert_ends_by_the_signal("+0 l0 +1 l1 +2 l2 s1 s0 s2 r");
    assert_ends_by_the_signal("+0 l0 +1 l1 s1 s0 r");
}

#[test]
fn copies_that_are_unloaded_in_the_order_they_started_crash_nothing() {
    assert_ends_by_the_signal("+0 l0 +1 l1 r =11 s0 -0 r =.1 s1 -1 r");
    assert_ends_by_the_signal("+0 l0 +1 l1 s1 -1 r =1 s0 -0 r");
    assert_runs("+0 l0 +1 l1 s0 -0 r =.1 +2 l2 r =.11 s1 -1 r =..1");
}

#[test]
fn copies_that_start_and_stop_in_turn_receive_each_signal() {
    let mut script = String::from("+0 +1 l0 l1 ");
    for _ in 0..50 {
        script.push_str("s0 r =.1 l0 r =11 s1 r =1 l1 r =11 ");
    }
    assert_runs(&script);
    assert_ends_by_the_signal(&format!("{script} s0 s1 r"));
    assert_ends_by_the_signal(&format!("{script} s1 s0 r"));
}

#[test]
fn a_handler_of_the_host_is_called_as_well_and_restored() {
    assert_runs("h r =...1 +0 l0 r =1..1 +1 l1 r =11.1 s0 r =.1.1 s1 r =...1 -0 -1 r =...1");
    assert_runs("h +0 l0 +1 l1 s1 s0 -0 -1 r =...1");
}

#[test]
fn a_later_handler_of_the_host_is_kept_and_does_not_disable_a_new_listener() {
    assert_runs("+0 l0 h r =0..1 s0 r =...1");
    assert_runs("+0 l0 h s0 l0 r =1..1 s0 r =...1 l0 r =1..1 s0 -0 r =...1");
    assert_runs("+0 l0 +1 l1 h s0 s1 r =...1 l1 r =.1.1 l0 r =11.1 s1 s0 r =...1");
}
