use std::time::Duration;

use polyloop_reactor::{Interest, Mode};

use crate::differences::Met;
use crate::lockstep;
use crate::script::{self, HOWS, KINDS, MODES, N_SLOTS, Step};

/// How long the network may take to deliver.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The maximum length of a script: longer ones only take more time.
const MAX_STEPS: usize = 200;

/// Runs a script over all selectors in lockstep, each step made of four bytes.
///
/// # Panics
/// If a selector's reports differ from the others'.
pub fn selector_script(data: &[u8]) {
    let steps: Vec<Step> = data
        .chunks_exact(4)
        .take(MAX_STEPS)
        .map(|bytes| step(bytes.try_into().expect("four bytes")))
        .collect();
    if let Err(failure) = lockstep::run(&steps, TIME_LIMIT, &mut Met::new()) {
        let line = script::write(&steps).trim_end().replace('\n', "; ");
        panic!(
            "step {}: {}\nReplay it with POLYLOOP_DIFF_SCRIPT='{line}' in the differential test",
            failure.index, failure.text
        );
    }
}

/// Makes a step from any four bytes.
fn step([what, a, b, c]: [u8; 4]) -> Step {
    let slot = usize::from(a) % N_SLOTS;
    let other = usize::from(b) % N_SLOTS;
    let n_bytes = [1, 2, 10, 700][usize::from(b) % 4];
    match what % 20 {
        0 | 1 => Step::Open { slot, other, kind: KINDS[usize::from(c) % KINDS.len()].0 },
        2 | 3 => Step::Register { slot, interest: interest(b), mode: mode(c) },
        4 | 5 => Step::Modify { slot, interest: interest(b), mode: mode(c) },
        6 => Step::Unregister { slot },
        7 => Step::Write { slot, n_bytes },
        8 => Step::Fill { slot },
        9 => Step::Read { slot, n_bytes },
        10 => Step::Drain { slot },
        11 => Step::Shut { slot, how: HOWS[usize::from(b) % HOWS.len()].0 },
        12 => Step::Urge { slot },
        13 => Step::TakeUrgent { slot },
        14 => Step::Duplicate { slot, to: other },
        15 => Step::Close { slot },
        16 => match b % 4 {
            0 => Step::Abandon { slot },
            1 => Step::Bury { slot },
            2 => Step::Succeed { slot, from: usize::from(c) % N_SLOTS },
            _ => Step::Notify,
        },
        17 => Step::Wait { timeout: Duration::from_nanos([1, 50_000][usize::from(a) % 2]) },
        18 => Step::Look { room: usize::from(a) % 5 + 1 },
        _ => Step::Look { room: 64 },
    }
}

fn interest(byte: u8) -> Interest {
    let mut interest = Interest::NONE;
    for (bit, one) in
        [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY].iter().enumerate()
    {
        if byte >> bit & 1 == 1 {
            interest |= *one;
        }
    }
    interest
}

fn mode(byte: u8) -> Mode {
    MODES[usize::from(byte) % MODES.len()].0
}
