//! Measures every backend against a bare loop, and writes `docs/backends.md` and its plots.
//!
//! ```text
//! cargo run --release -p polyloop-yardstick -- DIRECTORY [--quick] [--redraw]
//! ```
//!
//! `DIRECTORY` is `docs` or a new directory. The figures are written to `backends.tsv` there, and everything else is
//! generated from that file: `--redraw` does only the second part. `--quick` takes a tenth of the time, to
//! check that the program works.

mod measure;

mod page;

mod plot;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (flags, directories): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let is_known = |flag: &String| ["--quick", "--redraw"].contains(&flag.as_str());
    let [directory] = &directories[..] else { return usage() };
    if !flags.iter().all(is_known) {
        return usage();
    }
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    match run(Path::new(directory), has("--quick"), has("--redraw")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("polyloop-yardstick: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: polyloop-yardstick DIRECTORY [--quick] [--redraw]");
    ExitCode::from(2)
}

fn run(directory: &Path, is_quick: bool, only_redraw: bool) -> io::Result<()> {
    let file = directory.join("backends.tsv");
    if !only_redraw {
        // Measuring takes minutes, so what would make writing fail is found before.
        fs::create_dir_all(directory).map_err(|error| named(directory, &error))?;
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&file)
            .map_err(|e| named(&file, &e))?;
    }
    let page = directory.join("backends.md");
    page::prepare(&page).map_err(|error| named(&page, &error))?;
    if !only_redraw {
        let results = measure::all(is_quick)?;
        fs::write(&file, results.to_tsv())?;
    }
    let figures = fs::read_to_string(&file).map_err(|error| named(&file, &error))?;
    let results = measure::Results::from_tsv(&figures)?;
    for plot in plot::all(&results) {
        fs::write(directory.join(plot.file_name), plot.svg)?;
    }
    page::rewrite(&page, &results)
}

/// Adds a path to an error.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
