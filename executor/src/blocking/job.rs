//! A job: what it does, which one it is, and what is said of one that does not end.

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
    /// Dropped without having been called, it tells its handle that it was cancelled.
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

/// Says which job it is.
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

/// Describes a job that has begun and has not ended.
#[derive(Clone, Debug)]
pub struct RunningJob {
    pub(super) label: Label,
    pub(super) running_for: Duration,
}

impl RunningJob {
    /// Returns the name that it was given, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.label.name.as_deref()
    }

    /// Returns the line that spawned it.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.label.spawned_at
    }

    /// Returns how long it had run when it was asked about.
    pub fn running_for(&self) -> Duration {
        self.running_for
    }
}

impl fmt::Display for RunningJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, for {:.1?}", self.label, self.running_for)
    }
}

/// Names the jobs that had not ended when the wait for them was over.
///
/// They go on by themselves, on their threads; nothing can end them but the end of the process.
#[derive(Clone, Debug)]
pub struct UnfinishedJobs {
    pub(super) pool: String,
    pub(super) running: Vec<RunningJob>,
    pub(super) n_cancelled: usize,
}

impl UnfinishedJobs {
    /// Returns the jobs that run, those that have run longest first.
    pub fn running(&self) -> &[RunningJob] {
        &self.running
    }

    /// Returns how many jobs had not begun and were cancelled.
    pub fn n_cancelled(&self) -> usize {
        self.n_cancelled
    }

    /// Tells of each job that runs in a line on standard error.
    pub(super) fn tell(&self) {
        let mut stderr = io::stderr().lock();
        for job in &self.running {
            let pool = &self.pool;
            let told = writeln!(stderr, "polyloop: a job of the pool {pool:?} does not end: {job}");
            if told.is_err() {
                // There is nobody to tell, and no place to tell of that.
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
