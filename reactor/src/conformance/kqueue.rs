//! The systems that have kqueue, and the differences between their kernels that a selector cannot hide.

#[cfg(all(feature = "kqueue-model", any(target_os = "linux", target_os = "android")))]
pub use crate::sys::selectors::kqueue::model::{KqueueModel, MODELS};

/// Describes the kqueue of a system, as far as a selector cannot hide it. `docs/kqueue.md` names the sources.
#[derive(Clone, Copy, Debug)]
pub struct KqueueSystem {
    /// The system's name in [`std::env::consts::OS`].
    pub name: &'static str,
    /// Whether there is a filter for out-of-band data.
    pub has_priority: bool,
    /// The filters for the direction that an end of a pipe is not used in.
    pub other_direction: OtherDirection,
    /// Whether a one-shot filter reports a condition that no longer exists.
    pub keeps_one_shots: bool,
}

/// Names the filters for the direction that an end of a pipe is not used in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OtherDirection {
    /// Those of another stream.
    Open,
    /// Silent until the pipe ends.
    Silent,
    /// Refused.
    Refused,
}

impl KqueueSystem {
    /// FreeBSD.
    pub const FREEBSD: KqueueSystem = KqueueSystem {
        name: "freebsd",
        has_priority: false,
        other_direction: OtherDirection::Open,
        keeps_one_shots: true,
    };

    /// OpenBSD.
    pub const OPENBSD: KqueueSystem =
        KqueueSystem { name: "openbsd", has_priority: true, ..KqueueSystem::FREEBSD };

    /// NetBSD.
    pub const NETBSD: KqueueSystem = KqueueSystem {
        name: "netbsd",
        other_direction: OtherDirection::Silent,
        ..KqueueSystem::FREEBSD
    };

    /// NetBSD after version 10.
    pub const NEWER_NETBSD: KqueueSystem =
        KqueueSystem { other_direction: OtherDirection::Refused, ..KqueueSystem::NETBSD };

    /// DragonFly BSD.
    pub const DRAGONFLY: KqueueSystem =
        KqueueSystem { name: "dragonfly", has_priority: true, ..KqueueSystem::FREEBSD };

    /// macOS and its family.
    pub const MACOS: KqueueSystem = KqueueSystem {
        name: "macos",
        has_priority: true,
        other_direction: OtherDirection::Silent,
        keeps_one_shots: false,
    };

    /// libkqueue on Linux.
    pub const LIBRARY: KqueueSystem =
        KqueueSystem { name: "linux", has_priority: false, ..KqueueSystem::MACOS };

    /// Returns the description of this system's kqueue.
    pub fn here() -> KqueueSystem {
        let systems = [
            KqueueSystem::FREEBSD,
            KqueueSystem::OPENBSD,
            KqueueSystem::NETBSD,
            KqueueSystem::DRAGONFLY,
            KqueueSystem::LIBRARY,
        ];
        let here = systems.into_iter().find(|system| system.name == std::env::consts::OS);
        here.unwrap_or(KqueueSystem::MACOS)
    }
}
