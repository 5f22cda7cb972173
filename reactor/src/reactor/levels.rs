//! Level-triggered selectors: the interest follows the waiters, and a source whose error stays backs off.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::source::Source;
use super::{Reactor, find};
use crate::sys::socket::has_pending_error;
use crate::{Direction, Interest, Mode, Selector, Token};

/// How long a source backs off that reports an error which no operation finds. Its other events are late by
/// as much, and it costs 200 turns a second.
const ERROR_BACKOFF: Duration = Duration::from_millis(5);

impl Reactor {
    /// Watches the sources again whose backoff is over, and returns how long a turn may wait.
    #[cold]
    #[inline(never)]
    pub(super) fn end_backoffs(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Duration>> {
        if self.backing_off.is_empty() {
            return Ok(timeout);
        }
        let now = Instant::now();
        let mut timeout = timeout;
        let mut outcome = Ok(());
        let Reactor { selector, sources, backing_off, owner, .. } = self;
        backing_off.retain(|&(token, end)| {
            let Some(source) = find(sources, *owner, token) else { return false };
            let left = end.saturating_duration_since(now);
            if !left.is_zero() {
                timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
                return true;
            }
            source.set_backing_off(false);
            let waited_for = Direction::BOTH.into_iter().filter(|way| source.has_waiter(*way));
            let wanted = waited_for.fold(Interest::NONE, |all, way| all | way.interest());
            if let Err(error) = set_interest(&mut **selector, source, token, wanted) {
                outcome = Err(error);
            }
            false
        });
        outcome.map(|()| timeout)
    }

    /// Returns when the next turn is due that watches a source again after its backoff.
    ///
    /// A source backs off while it reports an error that no operation finds.
    pub fn next_backoff_end(&self) -> Option<Instant> {
        // All back off equally long, so they are in order.
        self.backing_off.first().map(|&(_, end)| end)
    }
}

/// Watches `direction` with a level-triggered selector, unless it does already.
#[inline]
pub(super) fn arm(
    selector: &mut dyn Selector,
    backing_off: &mut Vec<(Token, Instant)>,
    source: &mut Source,
    token: Token,
    direction: Direction,
) -> io::Result<()> {
    let wanted = source.registered | direction.interest();
    if wanted == source.registered {
        if source.is_check_due() {
            return check_error(selector, backing_off, source, token);
        }
        return Ok(());
    }
    if source.is_backing_off() {
        return Ok(());
    }
    set_interest(selector, source, token, wanted)
}

/// Lets a source back off that reports an error which no operation finds.
///
/// The waiter has tried and found nothing, so an error that is pending now is one that stays: the
/// error queue of a socket (`IP_RECVERR` on Linux), which only the program can read. The level of an
/// error cannot be masked, so every wait would end at once.
#[cold]
#[inline(never)]
fn check_error(
    selector: &mut dyn Selector,
    backing_off: &mut Vec<(Token, Instant)>,
    source: &mut Source,
    token: Token,
) -> io::Result<()> {
    let is_stuck = has_pending_error(source.io.as_fd());
    source.set_checked(is_stuck);
    if is_stuck {
        set_interest(selector, source, token, Interest::NONE)?;
        source.set_backing_off(true);
        backing_off.push((token, Instant::now() + ERROR_BACKOFF));
    }
    Ok(())
}

/// Changes the interest that a level-triggered source is registered with.
pub(super) fn set_interest(
    selector: &mut dyn Selector,
    source: &mut Source,
    token: Token,
    wanted: Interest,
) -> io::Result<()> {
    let fd = source.io.as_fd();
    match (source.registered.is_empty(), wanted.is_empty()) {
        (true, true) => {}
        (true, false) => selector.register(fd, token, wanted, Mode::Level)?,
        (false, false) => selector.modify(fd, token, wanted, Mode::Level)?,
        (false, true) => selector.unregister(fd)?,
    }
    source.registered = wanted;
    Ok(())
}
