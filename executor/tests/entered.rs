//! Aim: errors of calls that are not allowed inside `Runtime::enter` name it.

use std::io::ErrorKind;

use polyloop_executor::{Runtime, run};

#[test]
fn running_a_loop_inside_enter_is_an_error_that_names_enter() {
    let (runtime, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let errors = runtime.enter(|| {
        [runtime.block_on(async {}), other.block_on(async {}), run(async {})]
            .map(Result::unwrap_err)
    });
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("inside `Runtime::enter`"), "{error}");
    }
    let inner = runtime.block_on(async { run(async {}).unwrap_err() }).unwrap();
    assert!(inner.to_string().contains("inside a running loop"), "{inner}");
}
