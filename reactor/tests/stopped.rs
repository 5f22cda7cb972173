//! A process that is stopped and continued (by a shell, a debugger, a freezer): some waits are then interrupted
//! although no handler has run, and report that.

use std::process::Command;

use polyloop_reactor::{Backend, conformance};

const CHILD: &str = "POLYLOOP_STOPPED_CHILD";

/// The kernel never resumes `epoll_wait`, and a test that only checked the events would report a wait that ended
/// early.
#[test]
fn a_stop_does_not_make_a_wait_end_early_without_a_reason() {
    if std::env::var_os(CHILD).is_some() {
        for _ in 0..10 {
            for backend in Backend::available() {
                let open = || backend.open();
                conformance::run("a_wait_without_descriptors_lasts_until_its_timeout", &open);
            }
        }
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this).env(CHILD, "1").spawn().unwrap();
    let stopping = "while kill -STOP $0; do kill -CONT $0; sleep 0.005; done";
    let mut shell =
        Command::new("sh").args(["-c", stopping, &child.id().to_string()]).spawn().unwrap();
    let status = child.wait().unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert!(status.success(), "{status}");
}
