//! Aim: the timer slack that a loop sets ends with the run, and no thread of the library has it.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use polyloop_executor::{Runtime, run, sleep, spawn_blocking};

const MS: Duration = Duration::from_millis(1);

/// Returns the timer slack of this thread.
fn slack_ns() -> u64 {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let path = format!("/proc/{}/timerslack_ns", thread.file_name().unwrap().to_str().unwrap());
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Returns the timer slack that a child program has.
fn slack_of_child_ns() -> u64 {
    let output = Command::new("cat").arg("/proc/self/timerslack_ns").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn the_timer_slack_of_a_thread_is_restored_after_its_loop_has_run() {
    // On a separate thread, whose slack no other code changes.
    thread::spawn(|| {
        let before = slack_ns();
        for _ in 0..2 {
            run(async {
                sleep(MS).await;
                assert!(slack_ns() <= 10_000, "the timer slack was not reduced");
            })
            .unwrap();
            assert_eq!(slack_ns(), before);
        }
        assert_eq!(slack_of_child_ns(), before);

        let runtime = Runtime::new().unwrap();
        let nap = runtime.spawn(sleep(2 * MS));
        while !runtime.enter(|| nap.is_finished()) {
            runtime.turn(None, Duration::MAX).unwrap();
            assert_eq!(slack_ns(), before);
        }
        assert_eq!(thread::spawn(slack_ns).join().unwrap(), before);
    })
    .join()
    .unwrap();
}

#[test]
fn blocking_threads_have_the_default_timer_slack() {
    thread::spawn(|| {
        let before = slack_ns();
        run(async move {
            sleep(MS).await;
            assert_eq!(spawn_blocking(slack_ns).await.unwrap(), before);
            sleep(MS).await;
            assert!(slack_ns() <= 10_000, "the timer slack was not reduced");
        })
        .unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_timer_slack_that_the_program_sets_meanwhile_is_kept() {
    thread::spawn(|| {
        run(async {
            sleep(MS).await;
            fs::write("/proc/thread-self/timerslack_ns", "5000")
                .or_else(|_| set_slack(5_000))
                .unwrap();
            sleep(MS).await;
        })
        .unwrap();
        assert_eq!(slack_ns(), 5_000);
    })
    .join()
    .unwrap();
}

fn set_slack(ns: u64) -> std::io::Result<()> {
    let thread = fs::read_link("/proc/thread-self")?;
    let thread = thread.file_name().unwrap().to_str().unwrap();
    fs::write(format!("/proc/{thread}/timerslack_ns"), ns.to_string())
}
