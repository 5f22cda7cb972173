//! Deadlock detection: the number of threads, and the error.

use std::error::Error;
use std::fmt;
use std::fs;

use crate::task::dump::Dump;

/// Returns the number of threads of the process, if the system reports it.
pub(crate) fn n_threads() -> Option<usize> {
    // Not from the directory `task`: its listing can miss a thread while others start and end.
    parse_n_threads(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Parses the number of threads in Linux's `stat` file of a process.
fn parse_n_threads(stat: &str) -> Option<usize> {
    // The second field is the program's name, in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let n_threads = fields.split_ascii_whitespace().nth(17)?.parse().ok()?;
    // Systems that imitate the file without a count write zero.
    Some(n_threads).filter(|n_threads| *n_threads > 0)
}

/// Creates the error of a deadlocked loop.
#[derive(Debug)]
pub(crate) struct Stuck {
    dump: Dump,
}

impl Stuck {
    pub(crate) fn new(dump: Dump) -> Stuck {
        Stuck { dump }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the loop would wait indefinitely: nothing can wake its tasks\n{}", self.dump)
    }
}

impl Error for Stuck {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_is_found_whatever_the_program_is_called() {
        let stat = |name: &str, n_threads: &str| {
            format!("7 ({name}) S 1 7 7 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 {n_threads} 0 84 5 6\n")
        };
        for name in ["polyloop", "a b", "1) S 2 (3", ""] {
            assert_eq!(parse_n_threads(&stat(name, "12")), Some(12), "{name:?}");
        }
        for nonsense in [&stat("a", "0"), &stat("a", "x"), "7 (a) S 1", "7", ""] {
            assert_eq!(parse_n_threads(nonsense), None, "{nonsense:?}");
        }
    }
}
