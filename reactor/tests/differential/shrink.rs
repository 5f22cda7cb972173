//! The shortest script that still fails: delta debugging over the list of steps.

use std::time::{Duration, Instant};

use polyloop_reactor::Mode;

use crate::script::Step;

/// How long the search may take: a script that fails by a time-out takes its time each time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes steps out, and makes those that stay plainer, for as long as `fails` says so.
pub(crate) fn shrink(script: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let deadline = Instant::now() + PATIENCE;
    let mut script = script.to_vec();
    let mut fails = |script: &[Step]| Instant::now() < deadline && fails(script);
    loop {
        let n_steps = script.len();
        take_out(&mut script, &mut fails);
        let is_plainer = make_plainer(&mut script, &mut fails);
        if script.len() == n_steps && !is_plainer {
            return script;
        }
    }
}

/// Takes out runs of steps, long ones first, until no single step can be spared.
fn take_out(script: &mut Vec<Step>, fails: &mut impl FnMut(&[Step]) -> bool) {
    let mut length = script.len() / 2;
    while length > 0 {
        let mut begin = 0;
        while begin < script.len() {
            let end = (begin + length).min(script.len());
            let mut rest = script.clone();
            rest.drain(begin..end);
            if fails(&rest) {
                *script = rest;
            } else {
                begin = end;
            }
        }
        length /= 2;
    }
}

fn make_plainer(script: &mut [Step], fails: &mut impl FnMut(&[Step]) -> bool) -> bool {
    let mut is_plainer = false;
    for index in 0..script.len() {
        for step in plainer(script[index]) {
            let before = std::mem::replace(&mut script[index], step);
            if fails(script) {
                is_plainer = true;
                break;
            }
            script[index] = before;
        }
    }
    is_plainer
}

/// Lists plainer forms of a step, the plainest first. None of them has `step` among its own, so
/// the search comes to an end.
fn plainer(step: Step) -> Vec<Step> {
    match step {
        Step::Write { slot, n_bytes } if n_bytes > 1 => vec![Step::Write { slot, n_bytes: 1 }],
        Step::Read { slot, n_bytes } if n_bytes > 1 => vec![Step::Read { slot, n_bytes: 1 }],
        Step::Look { room } if room != 64 => vec![Step::Look { room: 64 }],
        Step::Wait { .. } => vec![Step::Look { room: 64 }],
        Step::Abandon { slot } => vec![Step::Close { slot }],
        Step::Register { slot, interest, mode } if mode != Mode::Level => {
            vec![Step::Register { slot, interest, mode: Mode::Level }]
        }
        Step::Modify { slot, interest, mode } if mode != Mode::Level => {
            vec![Step::Modify { slot, interest, mode: Mode::Level }]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::generate;

    #[test]
    fn only_necessary_steps_remain() {
        let script = generate(7, 400);
        let n_looks = |script: &[Step]| {
            script
                .iter()
                .filter(|step| matches!(step, Step::Look { .. } | Step::Wait { .. }))
                .count()
        };
        let fails = |script: &[Step]| script.contains(&Step::Notify) && n_looks(script) >= 3;
        assert!(fails(&script));
        let shortest = shrink(&script, fails);
        assert_eq!(shortest.len(), 4, "{shortest:?}");
        assert!(fails(&shortest));
    }
}
