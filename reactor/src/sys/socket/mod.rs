//! What sockets, pipes and other descriptors need beyond the standard library.

mod accept;

mod credentials;

mod errors;

mod find;

pub(in crate::sys) mod kind;

mod message;

mod message_batch;

mod options;

mod passed_fds;

mod sigpipe;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod transfer;

pub use accept::*;
pub use credentials::{Credentials, peer_credentials};
pub use errors::{is_in_progress, is_out_of_buffers};
pub use find::{FIND_BYTE_IS_FAST, find_byte};
pub use kind::{Kind, blocking_standard_streams, is_listener, is_pollable, kind_of};
pub use message::{Received, peek, recv_msg};
pub use message_batch::{recv_many, send_many};
pub use options::*;
pub use passed_fds::{MAX_PASSED_FDS, ReceivedFds, recv_fds, send_fds};
pub use sigpipe::NoSignal;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use transfer::{send_file, splice};

pub(crate) use kind::has_pending_error;
