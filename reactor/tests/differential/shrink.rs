//! Finds a minimal failing script: delta debugging over the list of steps.

use std::time::{Duration, Instant};

use polyloop_reactor::Mode;

use crate::script::Step;

/// The time limit of the search: a script that fails with a timeout takes long each time.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Removes and simplifies steps while `fails` returns `true`.
pub(crate) fn shrink(script: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let deadline = Instant::now() + TIME_LIMIT;
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

/// Removes runs of steps, long ones first, until every step is necessary.
fn take_out(script: &mut Vec<Step>, fails: &mut impl FnMut(&[Step]) -> bool) {
    let mut length = script.len() / 2;
    while length > 0 {
        let mut start = 0;
        while start < script.len() {
            let end = (start + length).min(script.len());
            let mut rest = script.clone();
            rest.drain(start..end);
            if fails(&rest) {
                *script = rest;
            } else {
                start = end;
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

/// Lists simpler forms of a step, the simplest first. None of them has `step` among its simpler forms, so the
/// search ends.
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
