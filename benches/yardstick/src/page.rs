//! Writes the measured part of `docs/backends.md`: tables, and whether each target is met.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::measure::{Cost, Kind, Results, Row};
use crate::plot::grouped;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// The numbers of pairs and of active ones of the targets.
const PROMISED: [usize; 3] = [100, 1_000, 8_000];
const PROMISED_ACTIVE: [usize; 2] = [1, 100];

/// Checks that `rewrite` will succeed, and writes a page without prose if there is none.
pub(crate) fn prepare(page: &Path) -> io::Result<()> {
    if !page.exists() {
        fs::write(page, format!("# What each backend costs\n\n{BEGIN}\n{END}\n"))?;
    }
    split(page, &fs::read_to_string(page)?)?;
    fs::OpenOptions::new().append(true).open(page)?;
    Ok(())
}

/// Replaces the part between the marks of the page.
pub(crate) fn rewrite(page: &Path, results: &Results) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let (head, tail) = split(page, &text)?;
    fs::write(page, format!("{head}{BEGIN}{}{END}{tail}", measured(results)))
}

/// Returns the text of a page before and after the measured part.
fn split<'a>(page: &Path, text: &'a str) -> io::Result<(&'a str, &'a str)> {
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let Some((head, (_, tail))) = parts else {
        let message = format!("{}: the marks of the measured part are missing", page.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    };
    Ok((head, tail))
}

fn measured(results: &Results) -> String {
    let mut text = String::from("\n");
    for (name, value) in &results.origin {
        line(&mut text, format!("- {name}: {value}"));
    }
    text.push_str("\n### A dispatched event\n\n");
    text.push_str("One read, one write and its share of a wait. In brackets: ÷ the bare loop.\n\n");
    for n_active in PROMISED_ACTIVE {
        line(&mut text, format!("With {n_active} active:\n"));
        table(&mut text, results, Kind::Dispatch, n_active, &sizes(results, n_active));
        text.push('\n');
    }
    text.push_str("Waits and control calls for an event, selector / bare loop; in addition, each ");
    text.push_str("event has its read and its write:\n\n");
    calls_table(&mut text, results);
    text.push_str("\n### Idle descriptors\n\n");
    text.push_str("A wait of zero that finds nothing. In brackets: ÷ the bare loop.\n\n");
    table(&mut text, results, Kind::Look, 0, &sizes(results, 1));
    text.push_str("\n### Changing the set\n\n");
    text.push_str("Beside 100 registered descriptors; in brackets: ÷ the bare loop, where that ");
    text.push_str("makes a system call too.\n\n");
    control_table(&mut text, results);
    text.push_str("\n### Targets\n\n");
    promises(&mut text, results);
    text.push('\n');
    text
}

/// Returns the numbers of pairs that were measured with this many active ones.
fn sizes(results: &Results, n_active: usize) -> Vec<usize> {
    let rows = results.rows.iter();
    let rows = rows.filter(|row| row.kind == Kind::Dispatch && row.n_active == n_active);
    let mut sizes: Vec<usize> = rows.map(|row| row.n_pairs).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn table(text: &mut String, results: &Results, kind: Kind, n_active: usize, sizes: &[usize]) {
    header(text, "n", &results.backends());
    for n_pairs in sizes {
        let cells = results.backends().into_iter().map(|backend| {
            let row = results.find(kind, backend, *n_pairs, n_active);
            row.map_or("–".to_owned(), |row| with_ratio(row.selector, row.ratio))
        });
        let cells: Vec<String> = cells.collect();
        line(text, format!("| {} | {} |", grouped(*n_pairs as u64), cells.join(" | ")));
    }
}

fn calls_table(text: &mut String, results: &Results) {
    header(text, "n, active", &results.backends());
    for n_pairs in PROMISED {
        for n_active in PROMISED_ACTIVE {
            let cells = results.backends().into_iter().map(|backend| {
                let row = results.find(Kind::Dispatch, backend, n_pairs, n_active);
                row.map_or("–".to_owned(), |row| {
                    let bare = row.bare.map_or("–".to_owned(), calls);
                    format!("{} / {bare}", calls(row.selector))
                })
            });
            let cells: Vec<String> = cells.collect();
            let n_pairs = grouped(n_pairs as u64);
            line(text, format!("| {n_pairs}, {n_active} | {} |", cells.join(" | ")));
        }
    }
}

fn control_table(text: &mut String, results: &Results) {
    header(text, "", &results.backends());
    let kinds = [
        (Kind::Register, "register + unregister"),
        (Kind::Modify, "modify, another interest"),
        (Kind::ModifyData, "modify, another token only"),
    ];
    for (kind, name) in kinds {
        let cells = results.backends().into_iter().map(|backend| {
            let row = results.find(kind, backend, 100, 0);
            row.map_or("–".to_owned(), |row| {
                let ratio = row.ratio.filter(|_| row.bare.is_some_and(|bare| bare.n_calls > 0.0));
                let n_calls = row.selector.n_calls;
                format!("{}, {n_calls:.0} calls", with_ratio(row.selector, ratio))
            })
        });
        let cells: Vec<String> = cells.collect();
        line(text, format!("| {name} | {} |", cells.join(" | ")));
    }
}

fn promises(text: &mut String, results: &Results) {
    line(text, "| target | measured | |".to_owned());
    line(text, "|---|---|---|".to_owned());
    for n_active in PROMISED_ACTIVE {
        for n_pairs in PROMISED {
            let found = |backend| {
                let row = results.find(Kind::Dispatch, backend, n_pairs, n_active)?;
                Some((backend, row.ratio?))
            };
            let ratios: Vec<_> = results.backends().into_iter().filter_map(found).collect();
            let list = ratios.iter().map(|(backend, ratio)| format!("{backend} {ratio:.3}"));
            let list = list.collect::<Vec<_>>().join(", ");
            let holds = ratios.iter().all(|(_, ratio)| *ratio <= 1.05);
            let n_pairs = grouped(n_pairs as u64);
            target(
                text,
                &format!("an event at n = {n_pairs}, {n_active} active: ≤ 1.05 × bare"),
                &list,
                holds,
            );
        }
    }
    let register = |backend| results.find(Kind::Register, backend, 100, 0);
    for backend in ["select", "poll"] {
        if let Some(Row { selector: Cost { ns, .. }, .. }) = register(backend) {
            let name = format!("register + unregister under {backend}: < 20 ns each");
            // The figure is of both together, held against what one of them may take.
            target(text, &name, &format!("{:.1} ns for the two", ns), *ns < 20.0);
        }
    }
    if let Some(ratio) = register("epoll").and_then(|row| row.ratio) {
        let name = "register + unregister under epoll: ≤ 1.1 × the bare calls";
        target(text, name, &format!("{ratio:.3}"), ratio <= 1.1);
    }
}

fn target(text: &mut String, name: &str, measured: &str, holds: bool) {
    let holds = if holds { "met" } else { "**missed**" };
    line(text, format!("| {name} | {measured} | {holds} |"));
}

fn header(text: &mut String, first: &str, backends: &[&str]) {
    line(text, format!("| {first} | {} |", backends.join(" | ")));
    line(text, format!("|---|{}", "---:|".repeat(backends.len())));
}

fn with_ratio(cost: Cost, ratio: Option<f64>) -> String {
    let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.3})"));
    let ns = cost.ns;
    match ns {
        ..100.0 => format!("{ns:.1} ns{ratio}"),
        ..10_000.0 => format!("{} ns{ratio}", grouped(ns.round() as u64)),
        _ => format!("{} µs{ratio}", grouped((ns / 1_000.0).round() as u64)),
    }
}

fn calls(cost: Cost) -> String {
    format!("{:.3}", cost.n_calls)
}

fn line(text: &mut String, line: String) {
    writeln!(text, "{line}").expect("a string has room");
}
