//! Draws the figures as SVG with logarithmic axes, one line for each backend, in light or dark colors as the
//! reader prefers.

use std::fmt::Write;

use crate::measure::{Kind, Results, Row};

/// A file to write.
pub(crate) struct Plot {
    pub(crate) file_name: &'static str,
    pub(crate) svg: String,
}

/// Draws all plots.
pub(crate) fn all(results: &Results) -> Vec<Plot> {
    let draw = |file_name, kind, n_active, title, y_label| {
        let lines = lines(results, kind, n_active);
        Plot { file_name, svg: Chart::around(&lines).draw(title, y_label, &lines) }
    };
    let per_event = "time per dispatched event";
    vec![
        draw("backends-1-active.svg", Kind::Dispatch, 1, "One active pair among n", per_event),
        draw("backends-100-active.svg", Kind::Dispatch, 100, "100 active pairs among n", per_event),
        draw("backends-idle.svg", Kind::Look, 0, "A wait that finds nothing", "time per wait"),
    ]
}

/// The line of one backend and that of its bare loop.
struct Line<'a> {
    backend: &'a str,
    /// Numbers of pairs and nanoseconds.
    selector: Vec<(f64, f64)>,
    bare: Vec<(f64, f64)>,
}

fn lines(results: &Results, kind: Kind, n_active: usize) -> Vec<Line<'_>> {
    let line = |backend| {
        let is_its = |row: &&Row| {
            (row.kind, row.backend.as_str(), row.n_active) == (kind, backend, n_active)
        };
        let rows = || results.rows.iter().filter(is_its);
        let selector = rows().map(|row| (row.n_pairs as f64, row.selector.ns)).collect();
        let bare = rows().filter_map(|row| Some((row.n_pairs as f64, row.bare?.ns))).collect();
        Line { backend, selector, bare }
    };
    let lines = results.backends().into_iter().map(line);
    lines.filter(|line| !line.selector.is_empty()).collect()
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 80.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = HEIGHT - 52.0;

/// The smallest distance between two labels.
const LABEL_HEIGHT: f64 = 16.0;

const STYLE: &str = "\
<style>
  text { font: 13px system-ui, sans-serif; fill: #57606a; }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
  .ground { fill: #ffffff; }
  .grid { stroke: #d8dee4; stroke-width: 1; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .bare { fill: none; stroke-width: 1.25; stroke-dasharray: 2 4; opacity: 0.9; }
  .epoll { stroke: #0969da; } .mark.epoll, .name.epoll { fill: #0969da; }
  .poll { stroke: #bc4c00; } .mark.poll, .name.poll { fill: #bc4c00; }
  .select { stroke: #1a7f37; } .mark.select, .name.select { fill: #1a7f37; }
  .kqueue { stroke: #8250df; } .mark.kqueue, .name.kqueue { fill: #8250df; }
  .name { font-weight: 600; paint-order: stroke; stroke: #ffffff; stroke-width: 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; }
    .title { fill: #f0f6fc; }
    .ground { fill: #0d1117; }
    .grid { stroke: #2a313c; }
    .epoll { stroke: #58a6ff; } .mark.epoll, .name.epoll { fill: #58a6ff; }
    .poll { stroke: #f0883e; } .mark.poll, .name.poll { fill: #f0883e; }
    .select { stroke: #3fb950; } .mark.select, .name.select { fill: #3fb950; }
    .kqueue { stroke: #bc8cff; } .mark.kqueue, .name.kqueue { fill: #bc8cff; }
    .name { stroke: #0d1117; }
  }
</style>
";

/// The axes: the decades that contain all values.
struct Chart {
    x_decades: (i32, i32),
    y_decades: (i32, i32),
}

impl Chart {
    fn around(lines: &[Line<'_>]) -> Chart {
        let points = || lines.iter().flat_map(|line| line.selector.iter().chain(&line.bare));
        Chart {
            x_decades: decades(points().map(|point| point.0)),
            y_decades: decades(points().map(|point| point.1)),
        }
    }

    fn x(&self, n_pairs: f64) -> f64 {
        LEFT + share(self.x_decades, n_pairs) * (RIGHT - LEFT)
    }

    fn y(&self, ns: f64) -> f64 {
        BOTTOM - share(self.y_decades, ns) * (BOTTOM - TOP)
    }

    fn draw(&self, title: &str, y_label: &str, lines: &[Line<'_>]) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             role=\"img\">\n<title>{title}: {y_label}</title>\n{STYLE}\
             <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"16\" y=\"26\">{title}</text>\n\
             <text x=\"16\" y=\"46\">{y_label}; dotted: the bare loop</text>\n"
        );
        self.draw_axes(&mut svg);
        for line in lines {
            let backend = line.backend;
            if !line.bare.is_empty() {
                let path = self.path(&line.bare);
                push(&mut svg, format!("<path class=\"bare {backend}\" d=\"{path}\"/>"));
            }
            let path = self.path(&line.selector);
            push(&mut svg, format!("<path class=\"line {backend}\" d=\"{path}\"/>"));
            for (n_pairs, ns) in &line.selector {
                let (x, y) = (self.x(*n_pairs), self.y(*ns));
                let mark = mark(backend);
                let place = format!("transform=\"translate({x:.1} {y:.1})\"");
                push(&mut svg, format!("<path class=\"mark {backend}\" {place} d=\"{mark}\"/>"));
            }
        }
        for (backend, x, y) in self.labels(lines) {
            let place = format!("x=\"{x:.1}\" y=\"{y:.1}\"");
            push(&mut svg, format!("<text class=\"name {backend}\" {place}>{backend}</text>"));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String) {
        for decade in self.x_decades.0..=self.x_decades.1 {
            let x = self.x(10_f64.powi(decade));
            let label = grouped(10_u64.pow(decade as u32));
            let ends = format!("x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"");
            push(svg, format!("<line class=\"grid\" {ends}/>"));
            let place = format!("x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\"", BOTTOM + 20.0);
            push(svg, format!("<text {place}>{label}</text>"));
        }
        for decade in self.y_decades.0..=self.y_decades.1 {
            let y = self.y(10_f64.powi(decade));
            let label = nanoseconds(decade);
            let ends = format!("x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"");
            push(svg, format!("<line class=\"grid\" {ends}/>"));
            let place = format!("x=\"{}\" y=\"{:.1}\" text-anchor=\"end\"", LEFT - 8.0, y + 4.0);
            push(svg, format!("<text {place}>{label}</text>"));
        }
        let middle = (LEFT + RIGHT) / 2.0;
        let place = format!("x=\"{middle}\" y=\"{}\" text-anchor=\"middle\"", BOTTOM + 40.0);
        push(svg, format!("<text {place}>registered pairs, n</text>"));
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (index, (n_pairs, ns)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let (x, y) = (self.x(*n_pairs), self.y(*ns));
            write!(path, "{command}{x:.1} {y:.1}").expect("a string has room");
        }
        path
    }

    /// Puts each name at the end of its line, and moves those apart that would overlap.
    fn labels<'a>(&self, lines: &[Line<'a>]) -> Vec<(&'a str, f64, f64)> {
        let ends = lines.iter().filter_map(|line| {
            let (n_pairs, ns) = line.selector.last()?;
            Some((line.backend, self.x(*n_pairs) + 10.0, self.y(*ns) + 4.0))
        });
        let mut labels: Vec<_> = ends.collect();
        labels.sort_by(|one, other| one.2.total_cmp(&other.2));
        let mut last: Option<(f64, f64)> = None;
        for (_, x, y) in &mut labels {
            if let Some((last_x, last_y)) = last
                && (*x - last_x).abs() < 60.0
            {
                *y = y.max(last_y + LABEL_HEIGHT);
            }
            last = Some((*x, *y));
        }
        labels
    }
}

fn push(svg: &mut String, element: String) {
    svg.push_str(&element);
    svg.push('\n');
}

/// Returns the powers of ten that enclose the values, at least one decade apart.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (low, high) =
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0, 1);
    }
    let (low, high) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (low, high.max(low + 1))
}

/// Returns the position of a value on a logarithmic axis, from 0 to 1.
fn share((low, high): (i32, i32), value: f64) -> f64 {
    (value.log10() - f64::from(low)) / f64::from(high - low)
}

/// Returns the shape of a backend's marks, so that lines differ in more than color.
fn mark(backend: &str) -> &'static str {
    match backend {
        "epoll" => "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "poll" => "M-3.5 -3.5h7v7h-7z",
        "select" => "M0 -4.5L4.5 3.5H-4.5z",
        _ => "M0 -5L5 0L0 5L-5 0z",
    }
}

fn nanoseconds(decade: i32) -> String {
    let (unit, zeros) = match decade {
        ..0 => return format!("{} ns", 10_f64.powi(decade)),
        0..3 => ("ns", decade),
        3..6 => ("µs", decade - 3),
        6..9 => ("ms", decade - 6),
        _ => ("s", decade - 9),
    };
    format!("{} {unit}", 10_u64.pow(zeros as u32))
}

/// Writes a number with commas between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(100), "100");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn decades_hold_every_value() {
        assert_eq!(decades([3.0, 950.0].into_iter()), (0, 3));
        assert_eq!(decades([100.0].into_iter()), (2, 3));
        assert_eq!(decades([].into_iter()), (0, 1));
    }

    #[test]
    fn a_decade_is_labelled_in_a_unit_that_fits() {
        assert_eq!(nanoseconds(2), "100 ns");
        assert_eq!(nanoseconds(4), "10 µs");
        assert_eq!(nanoseconds(6), "1 ms");
    }

    #[test]
    fn a_line_ends_with_its_name_and_labels_keep_their_distance() {
        let line = |backend, ns| Line {
            backend,
            selector: vec![(1.0, 10.0), (100.0, ns)],
            bare: Vec::new(),
        };
        let lines = [line("epoll", 500.0), line("poll", 510.0)];
        let chart = Chart::around(&lines);
        let labels = chart.labels(&lines);
        assert!((labels[1].2 - labels[0].2).abs() >= LABEL_HEIGHT);
        let svg = chart.draw("title", "time", &lines);
        assert!(svg.contains(">epoll</text>") && svg.contains(">poll</text>"));
    }
}
