//! Futures over the timer heap.

mod sleep;

mod timeout;

mod interval;

mod hold;

pub use hold::{TimeHold, hold_time};
pub use interval::{Interval, MissedTicks, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Elapsed, timeout, timeout_at};
