//! The system calls about dispositions.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;

use libc::c_int;

use super::handler::handler;
use crate::sys::cvt::cvt;

/// Returns the disposition of this library: interrupted calls are resumed, an alternate stack is used if there
/// is one, and no other signal interrupts the handler.
pub(super) fn ours() -> libc::sigaction {
    // SAFETY: a `sigaction` is plain integers and an optional function, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = handler;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
    // SAFETY: the mask is valid for writes.
    unsafe { libc::sigfillset(&mut action.sa_mask) };
    action
}

pub(super) fn default_action() -> libc::sigaction {
    let mut action = ours();
    (action.sa_sigaction, action.sa_flags) = (libc::SIG_DFL, 0);
    action
}

pub(super) fn replace(signum: c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut former = MaybeUninit::uninit();
    // SAFETY: `action` is initialized and `former` valid for writes. The handler of this library is
    // async-signal-safe; any other is restored as the system returned it.
    cvt(unsafe { libc::sigaction(signum, action, former.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `former`.
    Ok(unsafe { former.assume_init() })
}

pub(super) fn current(signum: c_int) -> io::Result<libc::sigaction> {
    let mut current = MaybeUninit::uninit();
    // SAFETY: a null action changes nothing, and `current` is valid for writes.
    cvt(unsafe { libc::sigaction(signum, ptr::null(), current.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `current`.
    Ok(unsafe { current.assume_init() })
}

/// Returns whether the handler of this library is the one that the system calls.
pub(super) fn is_first(signum: c_int) -> bool {
    current(signum).is_ok_and(|now| now.sa_sigaction == ours().sa_sigaction)
}

/// Keeps the shared object that contains this code in memory.
pub(super) fn stay_loaded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let address = ptr::with_exposed_provenance::<libc::c_void>(ours().sa_sigaction);
        let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: the address is one of code, and `found` is valid for writes.
        if unsafe { libc::dladdr(address, found.as_mut_ptr()) } == 0 {
            return;
        }
        // SAFETY: it is plain pointers, for which zero is valid, and the call has filled it.
        let found = unsafe { found.assume_init() };
        if found.dli_fname.is_null() {
            return;
        }
        // A second handle, which is never closed. It is an error for the program itself, which cannot
        // be unloaded.
        // SAFETY: the name is a string that the loader owns, of what is loaded: nothing is run.
        unsafe { libc::dlopen(found.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    });
}
