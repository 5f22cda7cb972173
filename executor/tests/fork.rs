//! A forked child can do its parent's loop no harm, and can make one of its own.
//!
//! A file of its own with a single test: a child has one thread, so as few others as possible
//! should be doing something when it is made.

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
        // The parent's loop is as good as before.
        assert_eq!(runtime.block_on(async { spawn(ready(7)).await }).unwrap().unwrap(), 7);
    }

    // A child that is made inside the loop, and gives way there.
    let is_child = run(async {
        let runtime = Runtime::new().unwrap();
        let code = in_forked_child(move || {
            // Dropping the parent's runtime ends the tasks of the copy, and nothing else.
            drop(runtime);
            true
        });
        code.unwrap()
    });
    assert_eq!(is_child.unwrap(), 0);
}
