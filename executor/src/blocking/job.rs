//! Jobs, and the reports about jobs that do not end.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::panic::Location;
use std::time::Duration;

use crate::inspect::lost_panic::Origin;
use crate::join::packet::Sender;

/// Work for a thread of a pool.
pub(super) struct Job {
    pub(super) label: Label,
    /// If it is dropped without being called, its handle reports that it was cancelled.
    pub(super) work: Box<dyn FnOnce() + Send>,
}

impl Job {
    /// Makes a job that sends its result by `sender`. `hold` is dropped after that, or with the job.
    pub(super) fn new<T: Send + 'static>(
        label: Label,
        work: impl FnOnce() -> T + Send + 'static,
        sender: Sender<T>,
        origin: Option<Box<Origin>>,
        hold: impl Send + 'static,
    ) -> Job {
        let call = Call { work, sender, origin, _hold: hold };
        Job { label, work: Box::new(move || call.run()) }
    }
}

/// What a job calls, and what it needs for that.
struct Call<W, T, H> {
    work: W,
    sender: Sender<T>,
    origin: Option<Box<Origin>>,
    /// Dropped last, so that time passes only after the outcome has been announced.
    _hold: H,
}

impl<T, W: FnOnce() -> T, H> Call<W, T, H> {
    fn run(self) {
        let Call { work, sender, origin, _hold } = self;
        if sender.begin() {
            sender.run(origin, work);
        }
    }
}

/// Identifies a job.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) spawned_at: &'static Location<'static>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name:?} ({})", self.spawned_at),
            None => write!(f, "spawned at {}", self.spawned_at),
        }
    }
}

/// A job that is running.
#[derive(Clone, Debug)]
pub struct RunningJob {
    pub(super) label: Label,
    pub(super) running_for: Duration,
}

impl RunningJob {
    /// Returns the name of the job, or `None` if it has none.
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Returns the line that spawned the job.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.label.spawned_at
    }

    /// Returns how long the job had been running when this description was created.
    pub fn running_for(&self) -> Duration {
        self.running_for
    }
}

impl fmt::Display for RunningJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for {:.1?}", self.label, self.running_for)
    }
}

/// The error of a pool that was shut down while jobs were running or queued.
///
/// Jobs that are running continue on their threads until they return or the process ends.
#[derive(Clone, Debug)]
pub struct UnfinishedJobs {
    pub(super) pool: String,
    pub(super) running: Vec<RunningJob>,
    pub(super) n_cancelled: usize,
}

impl UnfinishedJobs {
    /// Returns the jobs that are running, the longest running first.
    pub fn running(&self) -> &[RunningJob] {
        &self.running
    }

    /// Returns the number of jobs that had not started and were cancelled.
    pub fn cancelled(&self) -> usize {
        self.n_cancelled
    }

    /// Writes a line for each running job to standard error.
    pub(super) fn report(&self) {
        let mut stderr = io::stderr().lock();
        for job in &self.running {
            let pool = &self.pool;
            let written =
                writeln!(stderr, "polyloop: a job of the pool {pool:?} does not end: {job}");
            if written.is_err() {
                // There is no other place to report to.
                break;
            }
        }
    }
}

impl fmt::Display for UnfinishedJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnfinishedJobs { pool, running, n_cancelled } = self;
        if running.is_empty() {
            return write!(f, "the pool {pool:?} had no time for {n_cancelled} of its jobs");
        }
        write!(f, "the pool {pool:?} has jobs that do not end")?;
        if *n_cancelled > 0 {
            write!(f, ", and had no time for {n_cancelled} others")?;
        }
        let mut before = ": ";
        for job in running {
            write!(f, "{before}{job}")?;
            before = "; ";
        }
        Ok(())
    }
}

impl Error for UnfinishedJobs {}

impl From<UnfinishedJobs> for io::Error {
    fn from(unfinished: UnfinishedJobs) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, unfinished)
    }
}
