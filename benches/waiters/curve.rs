//! A curve: the cost of an operation by the number of waiters.

use std::time::Duration;

/// The numbers of waiters.
pub(crate) const COUNTS: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

/// The time limit for one number of waiters, after the first measurement.
const ENOUGH: Duration = Duration::from_millis(300);

/// An operation beside the waiters, or by them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// The runtime's name.
    pub(crate) runtime: &'static str,
    /// Runs it with a number of waiters; returns the duration and the number of operations.
    pub(crate) measure: fn(usize) -> (Duration, usize),
}

impl Curve {
    /// Returns the nanoseconds per operation: the minimum of several measurements, because disturbances only add
    /// time.
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

/// Prints the curves whose names contain `filter`, in nanoseconds per operation.
pub(crate) fn print_curves<'a>(curves: impl IntoIterator<Item = &'a Curve>, filter: &str) {
    print!("| ns per operation with waiters: | runtime |");
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
