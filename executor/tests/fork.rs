//! A forked child cannot damage its parent's loop, and can create a loop.
//!
//! The only test of its file: a child has one thread, so as few other threads as possible should be active
//! at the fork.

use std::future::{pending, ready};
use std::io;
use std::time::Duration;

use polyloop_executor::{Builder, Runtime, run, sleep, spawn, yield_now};
use polyloop_reactor::Backend;
use polyloop_reactor::conformance::in_forked_child;

fn is_refused<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.to_string().contains("forked child"))
}

#[test]
fn a_forked_child_gets_an_error_from_its_parents_loop_and_can_create_one() {
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        drop(runtime.spawn(pending::<()>()));
        runtime.block_on(yield_now()).unwrap();
        let code = in_forked_child(|| {
            is_refused(runtime.block_on(sleep(Duration::ZERO)))
                && is_refused(runtime.block_on(ready(())))
                && is_refused(runtime.turn(Some(Duration::ZERO), Duration::MAX))
                && run(async { spawn(async { 7 }).await.unwrap() }).is_ok_and(|seven| seven == 7)
        });
        assert_eq!(code.unwrap(), 0, "{backend}");
        // The parent's loop still works.
        assert_eq!(runtime.block_on(async { spawn(ready(7)).await }).unwrap().unwrap(), 7);
    }

    // A child that is forked inside the loop, and yields there.
    let is_child = run(async {
        let runtime = Runtime::new().unwrap();
        let code = in_forked_child(move || {
            // Dropping the copy of the parent's runtime drops its tasks, and affects nothing else.
            drop(runtime);
            true
        });
        code.unwrap()
    });
    assert_eq!(is_child.unwrap(), 0);
}
