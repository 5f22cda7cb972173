//! The selectors of this crate, by name.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use crate::{Selector, sys};

/// Identifies a selector: one mechanism of the operating system.
///
/// # Examples
/// ```
/// use polyloop::Backend;
///
/// let backend: Backend = "poll".parse().unwrap();
/// assert_eq!(backend.to_string(), "poll");
/// assert!(backend.is_available());
/// assert_eq!(
///     "pole".parse::<Backend>().unwrap_err().to_string(),
///     "unknown backend \"pole\" (one of: select, poll, epoll, kqueue)"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// select(2), on every system, for descriptors below `FD_SETSIZE`.
    Select,
    /// poll(2), on every system. Each wait examines all descriptors.
    Poll,
    /// epoll(7), on Linux.
    Epoll,
    /// kqueue(2), on macOS and the BSDs.
    Kqueue,
    /// A selector from outside this crate, with its name.
    Custom(&'static str),
}

impl Backend {
    /// The name of the environment variable that selects a backend: `POLYLOOP_BACKEND`.
    pub const ENV: &'static str = "POLYLOOP_BACKEND";

    const ALL: [Backend; 4] = [Backend::Select, Backend::Poll, Backend::Epoll, Backend::Kqueue];

    /// Returns the backends of this system, the best one first.
    pub fn available() -> &'static [Backend] {
        sys::selectors::AVAILABLE
    }

    /// Returns whether this system has the backend.
    pub fn is_available(self) -> bool {
        Backend::available().contains(&self)
    }

    /// Returns the name, as parsed and displayed.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Select => "select",
            Backend::Poll => "poll",
            Backend::Epoll => "epoll",
            Backend::Kqueue => "kqueue",
            Backend::Custom(name) => name,
        }
    }

    /// Opens a selector of this backend.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the system lacks the backend; an error such as `EMFILE`
    /// if no descriptor is left.
    pub fn open(self) -> io::Result<Box<dyn Selector>> {
        sys::selectors::open(self)
    }

    /// Reads a backend from the environment variable [`POLYLOOP_BACKEND`](Backend::ENV). Returns `None` if
    /// it is unset or empty.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the value is not the name of a backend.
    pub fn from_env() -> io::Result<Option<Backend>> {
        match std::env::var(Backend::ENV) {
            Ok(name) if name.is_empty() => Ok(None),
            Ok(name) => name.parse().map(Some).map_err(|unknown: UnknownBackend| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {unknown}", Backend::ENV))
            }),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{}: {error}", Backend::ENV),
            )),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Backend, UnknownBackend> {
        let known = Backend::ALL.into_iter().find(|backend| backend.name() == name);
        known.ok_or_else(|| UnknownBackend { name: name.to_owned() })
    }
}

/// The error of parsing a name that no [`Backend`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBackend {
    name: String,
}

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Backend::ALL.map(Backend::name).join(", ");
        write!(f, "unknown backend {:?} (one of: {known})", self.name)
    }
}

impl Error for UnknownBackend {}

/// Opens a selector of the backend in [`POLYLOOP_BACKEND`](Backend::ENV), or of the best one that works if
/// the variable is not set.
///
/// # Errors
/// Returns an error if the backend in the variable is unknown or cannot be opened: no other backend takes its
/// place. If the variable is not set, returns the error of the last backend that was tried.
#[doc(alias = "DefaultSelector")]
pub fn default_selector() -> io::Result<Box<dyn Selector>> {
    if let Some(backend) = Backend::from_env()? {
        return backend.open();
    }
    let mut result = Err(io::Error::from(io::ErrorKind::Unsupported));
    for backend in Backend::available() {
        result = backend.open();
        if result.is_ok() {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_backend() {
        for backend in Backend::ALL {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
    }

    #[test]
    fn select_and_poll_are_everywhere() {
        assert!(Backend::Select.is_available() && Backend::Poll.is_available());
    }

    #[test]
    fn a_backend_of_another_system_is_unsupported() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_available()) {
            let error = backend.open().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains(backend.name()), "{error}");
        }
    }
}
