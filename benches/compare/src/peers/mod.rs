//! The runtimes, one per file.

mod floor;

mod polyloop;

mod tokio;

mod smol;

#[cfg(target_os = "linux")]
mod monoio;

#[cfg(target_os = "linux")]
mod compio;

#[cfg(target_os = "linux")]
mod glommio;

pub(crate) use floor::Floor;
pub(crate) use polyloop::{Polyloop, PolyloopShared};
pub(crate) use smol::Smol;
pub(crate) use tokio::{Tokio, TokioLocal};

#[cfg(target_os = "linux")]
pub(crate) use {compio::Compio, glommio::Glommio, monoio::Monoio};
