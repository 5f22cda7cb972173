//! Signals as futures. Each test runs in a separate process, because signals belong to the process.
#![cfg(unix)]

mod common;

use std::process::Command;
use std::time::Duration;

use polyloop::{Backend, signal};

use common::{is_alone, process, role, run_on};

backends!(
    one_signal_wakes_every_listener,
    one_signal_wakes_hundreds_of_listeners,
    a_signal_between_the_call_and_the_first_poll_counts,
    the_two_signals_are_distinguished,
    the_former_disposition_is_restored_after_the_last_listener,
    listeners_on_two_loops_are_both_notified,
);

/// Sends this process a signal with the shell's builtin `kill`: small systems lack the program.
fn kill(signal: &str) {
    let command = format!("kill {signal} {}", std::process::id());
    let status = Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(status.success());
}

fn one_signal_wakes_every_listener(backend: Backend) {
    if !is_alone(&format!("on_{backend}::one_signal_wakes_every_listener")) {
        return;
    }
    run_on(backend, async {
        let tasks: Vec<_> = (0..10).map(|_| polyloop::spawn(signal::ctrl_c())).collect();
        polyloop::yield_now().await;
        kill("-INT");
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

fn one_signal_wakes_hundreds_of_listeners(backend: Backend) {
    // The 65th was an error. A process on macOS has 256 descriptors, two of which are a listener.
    let n_listeners = if cfg!(target_os = "linux") { 400 } else { 100 };
    if !is_alone(&format!("on_{backend}::one_signal_wakes_hundreds_of_listeners")) {
        return;
    }
    run_on(backend, async {
        let tasks: Vec<_> = (0..n_listeners).map(|_| polyloop::spawn(signal::ctrl_c())).collect();
        polyloop::yield_now().await;
        kill("-INT");
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

fn a_signal_between_the_call_and_the_first_poll_counts(backend: Backend) {
    if !is_alone(&format!("on_{backend}::a_signal_between_the_call_and_the_first_poll_counts")) {
        return;
    }
    run_on(backend, async {
        let listener = signal::terminate();
        kill("-TERM");
        listener.await.unwrap();
    });
}

fn the_two_signals_are_distinguished(backend: Backend) {
    if !is_alone(&format!("on_{backend}::the_two_signals_are_distinguished")) {
        return;
    }
    run_on(backend, async {
        let mut interrupt = std::pin::pin!(signal::ctrl_c());
        let terminate = signal::terminate();
        kill("-TERM");
        terminate.await.unwrap();
        let early = polyloop::timeout(Duration::from_millis(20), interrupt.as_mut()).await;
        assert!(early.is_err());
        kill("-INT");
        interrupt.await.unwrap();
    });
}

fn the_former_disposition_is_restored_after_the_last_listener(backend: Backend) {
    let name = format!("on_{backend}::the_former_disposition_is_restored_after_the_last_listener");
    if role().is_none() {
        // The second signal must end the process, because no listener is left. It is SIGTERM, because
        // shells make background processes ignore SIGINT.
        use std::os::unix::process::ExitStatusExt;
        let status = process(&name, "alone").status().unwrap();
        assert_eq!(status.signal(), Some(15), "{status}");
        return;
    }
    run_on(backend, async {
        let (one, other) = (signal::terminate(), signal::terminate());
        kill("-TERM");
        one.await.unwrap();
        other.await.unwrap();
    });
    kill("-TERM");
    std::thread::sleep(common::TIME_LIMIT);
}

fn listeners_on_two_loops_are_both_notified(backend: Backend) {
    if !is_alone(&format!("on_{backend}::listeners_on_two_loops_are_both_notified")) {
        return;
    }
    let elsewhere = signal::ctrl_c();
    let thread = std::thread::spawn(move || run_on(backend, elsewhere));
    run_on(backend, async {
        let here = signal::ctrl_c();
        kill("-INT");
        here.await.unwrap();
    });
    thread.join().unwrap().unwrap();
}
