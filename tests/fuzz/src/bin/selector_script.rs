//! Fuzzes [`polyloop_fuzz::selector_script`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| polyloop_fuzz::selector_script(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    polyloop_fuzz::replay(polyloop_fuzz::selector_script)
}
