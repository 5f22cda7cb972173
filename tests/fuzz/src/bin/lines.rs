//! Fuzzes [`polyloop_fuzz::lines`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| polyloop_fuzz::lines(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    polyloop_fuzz::replay(polyloop_fuzz::lines)
}
