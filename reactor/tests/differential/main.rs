//! Runs random scripts on all backends in lockstep: they have to report the same.
//!
//! `docs/differences.md` lists the permitted differences. A failing script is shortened as far as possible, and
//! printed. Environment variables:
//!
//! - `POLYLOOP_DIFF_SEED`: the seed of the first script; each further one has the next.
//! - `POLYLOOP_DIFF_STEPS`: the total number of steps.
//! - `POLYLOOP_DIFF_SCRIPT`: a script to replay instead, with semicolons between the steps.
#![cfg(unix)]

mod script;

mod author;

mod model;

mod implementation;

mod world;

mod differences;

mod scout;

mod participant;

mod lockstep;

mod shrink;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::differences::{Difference, Met};
use crate::lockstep::Failure;
use crate::script::Step;

const SEED: &str = "POLYLOOP_DIFF_SEED";
const STEPS: &str = "POLYLOOP_DIFF_STEPS";
const SCRIPT: &str = "POLYLOOP_DIFF_SCRIPT";

/// The length of one script: long enough to fill the slots, short enough to shrink quickly.
const STEPS_PER_SCRIPT: u64 = 500;

const DEFAULT_STEPS: u64 = 25_000;

/// How long the network may take to deliver.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The limit while a script is shortened, which takes many runs.
const HASTE: Duration = Duration::from_millis(50);

/// Scripts depend on descriptor numbers: they run one at a time in this process.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

#[test]
fn all_backends_report_the_same() {
    if let Ok(text) = env::var(SCRIPT) {
        let script = script::read(&text).expect("a script is a list of steps");
        return run(&script, TIME_LIMIT, &mut Met::new())
            .unwrap_or_else(|failure| panic!("{}", failure.text));
    }
    let first_seed = number_from_env(SEED, 1);
    let mut n_left = number_from_env(STEPS, DEFAULT_STEPS);
    let is_default = n_left == DEFAULT_STEPS;
    let mut met = Met::new();
    for seed in first_seed.. {
        if n_left == 0 {
            break;
        }
        let n_steps = n_left.min(STEPS_PER_SCRIPT);
        n_left -= n_steps;
        let script = author::generate(seed, n_steps as usize);
        if let Err(failure) = run(&script, TIME_LIMIT, &mut met) {
            report(seed, &script, failure);
        }
    }
    let unmet: Vec<Difference> = Difference::ALL
        .into_iter()
        .filter(|difference| difference.is_here() && !met.contains(difference))
        .collect();
    assert!(!is_default || unmet.is_empty(), "the table has rows that no script met: {unmet:?}");
}

#[test]
fn the_table_and_the_test_have_the_same_rows() {
    let table = include_str!("../../../docs/differences.md");
    // The rows of the first table start with a name in code font.
    let tables = table.split("\n## ").nth(1).expect("there is a first table");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert!(rows.eq(Difference::ALL.map(Difference::name)));
}

fn run(script: &[Step], time_limit: Duration, met: &mut Met) -> Result<(), Failure> {
    let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    panic::catch_unwind(AssertUnwindSafe(|| lockstep::run(script, time_limit, met))).unwrap_or_else(
        |panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            let text = format!("panicked: {}", text.unwrap_or_default());
            Err(Failure { index: script.len().saturating_sub(1), text })
        },
    )
}

/// Shortens a failing script, and panics with the result.
fn report(seed: u64, script: &[Step], failure: Failure) -> ! {
    eprintln!(
        "seed {seed}, step {}: {}; looking for a shorter script",
        failure.index, failure.text
    );
    let fails = |script: &[Step]| run(script, HASTE, &mut Met::new()).is_err();
    let shortest = shrink::shrink(&script[..=failure.index], fails);
    let text = match run(&shortest, HASTE, &mut Met::new()) {
        Err(failure) => failure.text,
        Ok(()) => format!("(not every time) {}", failure.text),
    };
    let steps = script::write(&shortest);
    let line = steps.trim_end().replace('\n', "; ");
    panic!(
        "{text}\n\n{steps}\nReplay it with\n{SCRIPT}='{line}'\nor the whole script with\n\
         {SEED}={seed} {STEPS}={}",
        script.len()
    );
}

fn number_from_env(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")),
        Err(_) => default,
    }
}
