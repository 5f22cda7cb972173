//! Measures a selector and a bare loop in turns, in one process, in many rounds.
//!
//! Within a round both do the same work on the same pairs, one after the other, in alternating
//! order. The two figures of a round are compared; the result is the median over all rounds. Times are
//! processor times of the thread.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use polyloop_reactor::Backend;
use polyloop_yardstick::classic::{
    Contender, MAX_SELECT_PAIRS, Pairs, Selected, Took, bare_contender,
};
use polyloop_yardstick::limits::raise_open_files;

/// The numbers of pairs, as far as the limit on descriptors allows.
const N_PAIRS: [usize; 9] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 8_000];

/// In addition, as many as that limit allows, but no more than this.
const MAX_PAIRS: usize = 50_000;

/// The numbers of active pairs.
const N_ACTIVE: [usize; 2] = [1, 100];

/// How many descriptors the program needs besides the pairs, whose writing ends begin above
/// select's limit.
const N_OTHER_FILES: usize = 1_200;

/// How long one side of a round should take: short, so that both sides run under the same conditions, and
/// long compared to reading the clock.
const SIDE: Duration = Duration::from_millis(4);

/// How many rounds are taken, unless they would take longer than [`CELL`].
const N_ROUNDS: usize = 61;

/// How long all rounds of one figure may take.
const CELL: Duration = Duration::from_secs(12);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One dispatched event, with its read and its write.
    Dispatch,
    /// One wait that finds nothing.
    Look,
    /// One registration and unregistration.
    Register,
    /// One change of interest.
    Modify,
    /// One change of data.
    ModifyData,
}

impl Kind {
    const ALL: [(Kind, &'static str); 5] = [
        (Kind::Dispatch, "dispatch"),
        (Kind::Look, "look"),
        (Kind::Register, "register"),
        (Kind::Modify, "modify"),
        (Kind::ModifyData, "modify-data"),
    ];

    fn name(self) -> &'static str {
        Kind::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// The median time and number of calls of one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    pub(crate) ns: f64,
    pub(crate) n_calls: f64,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) backend: String,
    pub(crate) n_pairs: usize,
    pub(crate) n_active: usize,
    pub(crate) n_rounds: usize,
    pub(crate) selector: Cost,
    pub(crate) bare: Option<Cost>,
    /// The median of the rounds' own ratios, which is not the ratio of the medians.
    pub(crate) ratio: Option<f64>,
}

/// All figures and their origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Results {
    /// Names and values: date, kernel, processor.
    pub(crate) origin: Vec<(String, String)>,
    pub(crate) rows: Vec<Row>,
}

impl Results {
    pub(crate) fn find(
        &self,
        kind: Kind,
        backend: &str,
        n_pairs: usize,
        n_active: usize,
    ) -> Option<&Row> {
        self.rows.iter().find(|row| {
            (row.kind, row.backend.as_str(), row.n_pairs, row.n_active)
                == (kind, backend, n_pairs, n_active)
        })
    }

    /// Lists the backends in the order in which they were measured.
    pub(crate) fn backends(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&row.backend.as_str()) {
                names.push(&row.backend);
            }
        }
        names
    }

    pub(crate) fn to_tsv(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.origin {
            writeln!(text, "# {name}\t{value}").expect("a string has room");
        }
        text.push_str(HEADER);
        for row in &self.rows {
            let (kind, backend, bare) = (row.kind.name(), &row.backend, row.bare);
            let Row { n_pairs, n_active, n_rounds, selector, .. } = row;
            let bare_ns = bare.map_or("-".to_owned(), |cost| format!("{:.1}", cost.ns));
            let bare_calls = bare.map_or("-".to_owned(), |cost| format!("{:.4}", cost.n_calls));
            let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.4}"));
            writeln!(
                text,
                "{kind}\t{backend}\t{n_pairs}\t{n_active}\t{n_rounds}\t{:.1}\t{bare_ns}\t{ratio}\t\
                 {:.4}\t{bare_calls}",
                selector.ns, selector.n_calls
            )
            .expect("a string has room");
        }
        text
    }

    pub(crate) fn from_tsv(text: &str) -> io::Result<Results> {
        let mut results = Results::default();
        for line in text.lines() {
            let row = match line.strip_prefix("# ") {
                Some(origin) => origin.split_once('\t').map(|(name, value)| {
                    results.origin.push((name.to_owned(), value.to_owned()));
                }),
                None if HEADER.trim_end() == line => Some(()),
                None => parse_row(line).map(|row| results.rows.push(row)),
            };
            row.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("not a row: {line:?}"))
            })?;
        }
        Ok(results)
    }
}

const HEADER: &str =
    "kind\tbackend\tpairs\tactive\trounds\tns\tbare_ns\tratio\tcalls\tbare_calls\n";

fn parse_row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [kind, backend, n_pairs, n_active, n_rounds, ns, bare_ns, ratio, calls, bare_calls] =
        cells.try_into().ok()?;
    let (kind, _) = Kind::ALL.into_iter().find(|(_, name)| *name == kind)?;
    let cost = |ns: &str, n_calls: &str| {
        Some(Cost { ns: ns.parse().ok()?, n_calls: n_calls.parse().ok()? })
    };
    Some(Row {
        kind,
        backend: backend.to_owned(),
        n_pairs: n_pairs.parse().ok()?,
        n_active: n_active.parse().ok()?,
        n_rounds: n_rounds.parse().ok()?,
        selector: cost(ns, calls)?,
        bare: cost(bare_ns, bare_calls),
        ratio: ratio.parse().ok(),
    })
}

/// Measures everything, and prints each figure to stderr.
pub(crate) fn all(is_quick: bool) -> io::Result<Results> {
    let n_files = raise_open_files((2 * MAX_PAIRS + N_OTHER_FILES) as _)? as usize;
    let most = (n_files.saturating_sub(N_OTHER_FILES) / 2).min(MAX_PAIRS);
    let mut results = Results { origin: origin(), rows: Vec::new() };
    for n_pairs in N_PAIRS.into_iter().filter(|n_pairs| *n_pairs < most).chain([most]) {
        for &backend in Backend::available() {
            if backend == Backend::Select && n_pairs > MAX_SELECT_PAIRS {
                continue;
            }
            // The selectors come first: select's own descriptor must be below its limit.
            let mut selected = Selected::new(backend)?;
            let mut bare = bare_contender(backend)?;
            let pairs = Pairs::new(n_pairs)?;
            for n_active in N_ACTIVE.into_iter().filter(|n_active| *n_active <= n_pairs) {
                let row = compare(is_quick, &mut selected, bare.as_mut(), |side, n_times| {
                    side.watch(&pairs)?;
                    // The first waits after registering are not like the others.
                    side.dispatch(&pairs, n_active, 4 * n_active as u64)?;
                    let took = side.dispatch(&pairs, n_active, n_times.max(n_active as u64));
                    side.unwatch(&pairs)?;
                    Ok((took?, n_times.max(n_active as u64)))
                })?;
                results.add(row.finish(Kind::Dispatch, backend, n_pairs, n_active));
            }
            let row = compare(is_quick, &mut selected, bare.as_mut(), |side, n_times| {
                side.watch(&pairs)?;
                side.poll(1)?;
                let took = side.poll(n_times);
                side.unwatch(&pairs)?;
                Ok((took?, n_times))
            })?;
            results.add(row.finish(Kind::Look, backend, n_pairs, 0));
            if n_pairs == 100 {
                measure_control(is_quick, backend, &mut selected, bare, &pairs, &mut results)?;
            }
        }
    }
    Ok(results)
}

/// Measures the cost of changing the set, next to the pairs that are in it.
fn measure_control(
    is_quick: bool,
    backend: Backend,
    selected: &mut Selected,
    mut bare: Option<Box<dyn Contender>>,
    pairs: &Pairs,
    results: &mut Results,
) -> io::Result<()> {
    let (stream, _other_end) = UnixStream::pair()?;
    selected.watch(pairs)?;
    bare.as_mut().map_or(Ok(()), |bare| bare.watch(pairs))?;
    let row = compare(is_quick, selected, bare.as_mut(), |side, n_times| {
        Ok((side.register(&stream, n_times)?, n_times))
    })?;
    results.add(row.finish(Kind::Register, backend, pairs.len(), 0));
    let row = compare(is_quick, selected, bare.as_mut(), |side, n_times| {
        Ok((side.modify(&stream, n_times)?, n_times))
    })?;
    results.add(row.finish(Kind::Modify, backend, pairs.len(), 0));
    let row = compare(is_quick, selected, None, |side, n_times| {
        Ok((side.modify_data(&stream, n_times)?, n_times))
    })?;
    results.add(row.finish(Kind::ModifyData, backend, pairs.len(), 0));
    selected.unwatch(pairs)
}

impl Results {
    fn add(&mut self, row: Row) {
        let (kind, backend, selector) = (row.kind.name(), &row.backend, row.selector);
        let Row { n_pairs, n_active, n_rounds, .. } = row;
        let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.3} × bare, "));
        eprintln!(
            "{kind:<12}{backend:<8}{n_pairs:>7} pairs {n_active:>4} active {:>12.1} ns  \
             {ratio}{:.3} calls, {n_rounds} rounds",
            selector.ns, selector.n_calls
        );
        self.rows.push(row);
    }
}

/// The rounds of one figure, the selector's and the bare loop's.
struct Rounds {
    selector: Vec<Cost>,
    bare: Vec<Cost>,
}

impl Rounds {
    fn finish(self, kind: Kind, backend: Backend, n_pairs: usize, n_active: usize) -> Row {
        let ratios = self.selector.iter().zip(&self.bare).map(|(one, other)| one.ns / other.ns);
        let ratio = median(ratios.collect());
        Row {
            kind,
            backend: backend.to_string(),
            n_pairs,
            n_active,
            n_rounds: self.selector.len(),
            selector: median_cost(&self.selector).expect("there is a round at least"),
            bare: median_cost(&self.bare),
            ratio,
        }
    }
}

fn median_cost(costs: &[Cost]) -> Option<Cost> {
    Some(Cost {
        ns: median(costs.iter().map(|cost| cost.ns).collect())?,
        n_calls: median(costs.iter().map(|cost| cost.n_calls).collect())?,
    })
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        n if n % 2 == 1 => Some(figures[middle]),
        _ => Some((figures[middle - 1] + figures[middle]) / 2.0),
    }
}

/// Runs `side` for both in turns. It takes a contender and the number of operations, and
/// returns their cost and their number.
fn compare(
    is_quick: bool,
    selected: &mut dyn Contender,
    mut bare: Option<&mut Box<dyn Contender>>,
    mut side: impl FnMut(&mut dyn Contender, u64) -> io::Result<(Took, u64)>,
) -> io::Result<Rounds> {
    // How often is enough for a side of a round? The first try also warms everything up.
    let mut n_times = 4;
    loop {
        let (took, n_done) = side(selected, n_times)?;
        let took_ns = took.time.as_nanos().max(1) as f64;
        if took.time >= SIDE / 4 {
            n_times = (n_done as f64 * SIDE.as_nanos() as f64 / took_ns).ceil() as u64;
            break;
        }
        n_times = 2 * n_done;
    }
    let (cell, n_rounds) = if is_quick { (CELL / 10, 7) } else { (CELL, N_ROUNDS) };
    let mut rounds = Rounds { selector: Vec::new(), bare: Vec::new() };
    let began = std::time::Instant::now();
    // An odd number of rounds, three at least.
    while rounds.selector.len() < n_rounds
        && (rounds.selector.len() < 3
            || rounds.selector.len().is_multiple_of(2)
            || began.elapsed() < cell)
    {
        let selector_first = rounds.selector.len().is_multiple_of(2);
        for is_selector in [selector_first, !selector_first] {
            let costs = if is_selector { &mut rounds.selector } else { &mut rounds.bare };
            let contender: &mut dyn Contender = match (&mut bare, is_selector) {
                (_, true) => &mut *selected,
                (Some(bare), false) => bare.as_mut(),
                (None, false) => continue,
            };
            let (took, n_done) = side(contender, n_times)?;
            costs.push(Cost {
                ns: took.time.as_nanos() as f64 / n_done as f64,
                n_calls: took.n_calls as f64 / n_done as f64,
            });
        }
    }
    Ok(rounds)
}

/// Returns the date and the machine of the measurement.
fn origin() -> Vec<(String, String)> {
    let output_of = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        });
        if text.is_empty() { "unknown".to_owned() } else { text }
    };
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| output_of("sysctl", &["-n", "machdep.cpu.brand_string"]));
    let pinned_to = match std::thread::available_parallelism().map_or(0, usize::from) {
        1 => "one core".to_owned(),
        n_cores => format!("nothing, {n_cores} cores"),
    };
    let entries = [
        ("date", output_of("date", &["-u", "+%Y-%m-%d"])),
        ("kernel", output_of("uname", &["-srm"])),
        ("processor", processor),
        ("pinned to", pinned_to),
        ("compiler", output_of("rustc", &["--version"])),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_file_of_results_reads_back_as_it_was_written() {
        let cost = |ns| Cost { ns, n_calls: 1.5 };
        let row = |bare, ratio| Row {
            kind: Kind::ModifyData,
            backend: "poll".to_owned(),
            n_pairs: 100,
            n_active: 1,
            n_rounds: 61,
            selector: cost(12.5),
            bare,
            ratio,
        };
        let rows = vec![row(Some(cost(10.0)), Some(1.25)), row(None, None)];
        let results = Results { origin: vec![("date".to_owned(), "today".to_owned())], rows };
        assert_eq!(Results::from_tsv(&results.to_tsv()).unwrap(), results);
        assert!(Results::from_tsv("dispatch\tpoll").is_err());
    }
}
