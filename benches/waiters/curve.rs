//! A curve: what one operation costs beside ever more waiters.

use std::time::Duration;

/// The numbers of waiters.
pub(crate) const COUNTS: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

/// The longest that one number of waiters is measured, after the first time.
const ENOUGH: Duration = Duration::from_millis(300);

/// What is done beside the waiters, or by them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// Who does it.
    pub(crate) runtime: &'static str,
    /// Does it among so many waiters; returns how long that took, and how many operations it was.
    pub(crate) measure: fn(usize) -> (Duration, usize),
}

impl Curve {
    /// Returns the nanoseconds of one operation: the least of several measurements, because what disturbs
    /// only adds.
    fn nanoseconds(&self, n_waiters: usize) -> f64 {
        let (mut least, mut total) = (f64::INFINITY, Duration::ZERO);
        let mut n_rounds = 0;
        while n_rounds == 0 || n_rounds < 20 && total < ENOUGH {
            let (took, n_operations) = (self.measure)(n_waiters);
            least = least.min(took.as_nanos() as f64 / n_operations as f64);
            total += took;
            n_rounds += 1;
        }
        least
    }
}

/// Prints those of the curves whose names contain `filter`, as nanoseconds for one operation.
pub(crate) fn print_curves<'a>(curves: impl IntoIterator<Item = &'a Curve>, filter: &str) {
    print!("| ns for each operation among | runtime |");
    COUNTS.iter().for_each(|n| print!(" {n} |"));
    println!("\n|---|---|{}", "---:|".repeat(COUNTS.len()));
    for curve in curves.into_iter().filter(|curve| curve.name.contains(filter)) {
        print!("| {} | {} |", curve.name, curve.runtime);
        for n_waiters in COUNTS {
            print!(" {:.0} |", curve.nanoseconds(n_waiters));
        }
        println!();
    }
}
