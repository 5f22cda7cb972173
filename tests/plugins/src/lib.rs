//! A library that listens for one signal, for a host that loads it more than once.

use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use polyloop_reactor::SignalFd;

static LISTENER: Mutex<Option<SignalFd>> = Mutex::new(None);

fn with_listener<R>(f: impl FnOnce(&mut Option<SignalFd>) -> R) -> R {
    f(&mut LISTENER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Starts to listen for `signum`. Returns 0, or -1 on failure.
#[no_mangle]
pub extern "C" fn plugin_listen(signum: c_int) -> c_int {
    match SignalFd::listen(signum) {
        Ok(signal) => {
            with_listener(|listener| *listener = Some(signal));
            0
        }
        Err(_) => -1,
    }
}

/// Returns 1 if the signal has arrived since the last call, or else 0.
#[no_mangle]
pub extern "C" fn plugin_take() -> c_int {
    with_listener(|listener| match listener.as_ref().map(SignalFd::take) {
        Some(Ok(came)) => came.into(),
        _ => -1,
    })
}

/// Stops listening.
#[no_mangle]
pub extern "C" fn plugin_stop() {
    drop(with_listener(Option::take));
}
