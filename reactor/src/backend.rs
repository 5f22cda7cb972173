//! The backends: the selectors that this crate can open.

use std::error::Error;
use std::fmt;
use std::io;
use std::str::FromStr;

use crate::{Selector, sys};

/// Names a mechanism for waiting.
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
    /// select(2): everywhere, up to `FD_SETSIZE` descriptors.
    Select,
    /// poll(2): everywhere, any number, each wait looks at all.
    Poll,
    /// epoll(7): Linux.
    Epoll,
    /// kqueue(2): macOS and the BSDs.
    Kqueue,
    /// A selector from outside this crate, by its name.
    Custom(&'static str),
}

impl Backend {
    /// The environment variable that chooses a backend: `POLYLOOP_BACKEND`.
    pub const ENV: &'static str = "POLYLOOP_BACKEND";

    const ALL: [Backend; 4] = [Backend::Select, Backend::Poll, Backend::Epoll, Backend::Kqueue];

    /// Lists the backends of this system, the best one first.
    pub fn available() -> &'static [Backend] {
        sys::selectors::AVAILABLE
    }

    /// Reports whether this system has the backend.
    pub fn is_available(self) -> bool {
        Backend::available().contains(&self)
    }

    /// Returns the name, as it is parsed and displayed.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Select => "select",
            Backend::Poll => "poll",
            Backend::Epoll => "epoll",
            Backend::Kqueue => "kqueue",
            Backend::Custom(name) => name,
        }
    }

    /// Makes a selector of this backend.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system lacks it; otherwise what the
    /// system says, such as having no descriptor left.
    pub fn open(self) -> io::Result<Box<dyn Selector>> {
        sys::selectors::open(self)
    }

    /// Reads the choice from [`POLYLOOP_BACKEND`](Backend::ENV); unset or empty is no choice.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) with the name and the legal names.
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

/// Says that a name is no backend's.
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

/// Makes the selector that [`POLYLOOP_BACKEND`](Backend::ENV) names, or else the best that works.
///
/// # Errors
/// A named backend that is unknown or does not work is an error, never replaced by another.
/// Without a name, the error of the last one tried.
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
