//! Deadlines, the clock that they are compared with, and the futures over both.

pub(crate) mod clock;

pub(crate) mod timer_heap;

pub(crate) mod timer_slots;

pub(crate) mod segments;

mod sleep;

mod timeout;

mod interval;

mod hold;

pub use hold::{TimeHold, hold_time};
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, timeout, timeout_at};
