//! Aim: randomly nested scopes, deadlines and shielded sections end exactly as a simple model calculates.

mod util;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use polyloop_executor::{CancelScope, now, shielded, sleep};

use util::run_virtual;

/// One step of a body.
enum Step {
    Sleep(u64),
    Shielded(Vec<Step>),
    Scope { number: usize, limit_ns: u64, body: Vec<Step> },
}

/// How a scope ended: its number, whether its body was done, and when.
type Ended = (usize, bool, u64);

/// Makes a body. Times are random to the nanosecond, so that no two coincide.
fn make(random: &mut fastrand::Rng, depth: u32, n_scopes: &mut usize) -> Vec<Step> {
    let n_steps = random.usize(0..4);
    let mut step = |_| match random.u8(..if depth == 0 { 1 } else { 3 }) {
        0 => Step::Sleep(random.u64(1..1_000_000_000)),
        1 => Step::Shielded(make(random, depth - 1, n_scopes)),
        _ => {
            *n_scopes += 1;
            let (number, limit_ns) = (*n_scopes, random.u64(1..2_000_000_000));
            Step::Scope { number, limit_ns, body: make(random, depth - 1, n_scopes) }
        }
    };
    (0..n_steps).map(&mut step).collect()
}

/// Executes the steps.
fn run_steps<'a>(
    steps: &'a [Step],
    start: Instant,
    ended: &'a Rc<RefCell<Vec<Ended>>>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move {
        for step in steps {
            match step {
                Step::Sleep(ns) => sleep(Duration::from_nanos(*ns)).await,
                Step::Shielded(section) => shielded(run_steps(section, start, ended)).await,
                Step::Scope { number, limit_ns, body } => {
                    let limit = Duration::from_nanos(*limit_ns);
                    let body = async |_: &_| run_steps(body, start, ended).await;
                    let outcome = CancelScope::new().timeout(limit).run(body).await;
                    let at = (now() - start).as_nanos() as u64;
                    ended.borrow_mut().push((*number, outcome.is_ok(), at));
                }
            }
        }
    })
}

/// Calculates the result of the steps.
#[derive(Default)]
struct Model {
    at: u64,
    ended: Vec<Ended>,
    /// Set inside a section that is not waited for.
    is_late: bool,
}

/// Why steps are not executed.
enum Cut {
    /// An enclosing scope ends: the position of its deadline among theirs.
    Scope(usize),
    /// They wait in a section that is not waited for.
    Late,
}

impl Model {
    fn steps(&mut self, steps: &[Step], deadlines: &mut Vec<u64>) -> Result<(), Cut> {
        for step in steps {
            match step {
                Step::Sleep(_) if self.is_late => return Err(Cut::Late),
                Step::Sleep(ns) => {
                    self.check(deadlines)?;
                    let end = self.at + ns;
                    let first = (0..deadlines.len()).min_by_key(|i| deadlines[*i]);
                    if let Some(first) = first.filter(|first| deadlines[*first] < end) {
                        self.at = deadlines[first];
                        return Err(Cut::Scope(first));
                    }
                    self.at = end;
                }
                Step::Shielded(section) => {
                    // Deadlines do not count inside the section.
                    let was_late = self.is_late;
                    self.is_late |= self.check(deadlines).is_err();
                    let outcome = self.steps(section, &mut Vec::new());
                    self.is_late = was_late;
                    if outcome.is_err() {
                        self.check(deadlines)?;
                        return Err(Cut::Late);
                    }
                }
                Step::Scope { number, limit_ns, body } => {
                    // A scope inside a cancelled one does not start.
                    self.check(deadlines)?;
                    deadlines.push(self.at + limit_ns);
                    let outcome = self.steps(body, deadlines);
                    deadlines.pop();
                    match outcome {
                        Err(Cut::Scope(position)) if position == deadlines.len() => {}
                        Err(cut) => return Err(cut),
                        Ok(()) => {}
                    }
                    self.ended.push((*number, outcome.is_ok(), self.at));
                }
            }
        }
        Ok(())
    }

    /// Waiting ends the innermost scope whose deadline has passed.
    fn check(&self, deadlines: &[u64]) -> Result<(), Cut> {
        let late = deadlines.iter().rposition(|deadline| *deadline <= self.at);
        late.map_or(Ok(()), |position| Err(Cut::Scope(position)))
    }
}

#[test]
fn scopes_nested_at_random_end_as_calculated() {
    let (mut n_cut, mut n_done) = (0, 0);
    for seed in 0..3_000 {
        let steps = make(&mut fastrand::Rng::with_seed(seed), 6, &mut 0);
        let mut model = Model::default();
        assert!(model.steps(&steps, &mut Vec::new()).is_ok());
        let (ended, took) = run_virtual(async {
            let (start, ended) = (now(), Rc::default());
            run_steps(&steps, start, &ended).await;
            (ended.take(), (now() - start).as_nanos() as u64)
        });
        assert_eq!((ended, took), (model.ended.clone(), model.at), "seed {seed}");
        n_done += model.ended.iter().filter(|(_, is_done, _)| *is_done).count();
        n_cut += model.ended.iter().filter(|(_, is_done, _)| !is_done).count();
    }
    // The test is meaningful only if both are common.
    assert!(n_done > 3_000 && n_cut > 1_000, "{n_done} done, {n_cut} cut short");
}
