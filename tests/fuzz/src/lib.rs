//! Fuzz targets, each with a model of the expected result.
//!
//! `run.sh` beside this package builds them with the coverage flags of stable Rust and runs each for
//! a number of seconds. Without those flags a target replays the files on its command line:
//! `cargo run -p polyloop-fuzz --bin lines FILE...`.

mod addresses;
mod bytes;
mod frames;
mod lines;
mod selector;

// Parts of the differential test: the script, its descriptors, and all selectors in lockstep.
macro_rules! from_the_differential_test {
    ($($module:ident $path:literal),* $(,)?) => {
        $(
            #[allow(dead_code, reason = "the test uses more of it")]
            #[path = $path]
            mod $module;
        )*
    };
}
#[cfg(test)]
#[path = "../../../reactor/tests/differential/author.rs"]
mod author;
from_the_differential_test! {
    script "../../../reactor/tests/differential/script.rs",
    model "../../../reactor/tests/differential/model.rs",
    world "../../../reactor/tests/differential/world.rs",
    implementation "../../../reactor/tests/differential/implementation.rs",
    differences "../../../reactor/tests/differential/differences.rs",
    scout "../../../reactor/tests/differential/scout.rs",
    participant "../../../reactor/tests/differential/participant.rs",
    lockstep "../../../reactor/tests/differential/lockstep.rs",
}

use std::process::ExitCode;

pub use addresses::addresses;
pub use frames::frames;
pub use lines::lines;
pub use selector::selector_script;

/// Runs `target` on each file of the command line.
pub fn replay(target: fn(&[u8])) -> ExitCode {
    let mut n_files = 0;
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(data) => target(&data),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        n_files += 1;
    }
    if n_files == 0 {
        eprintln!("usage: name the files to replay");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
