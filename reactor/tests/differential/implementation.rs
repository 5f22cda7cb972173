//! The implementations of the contract that take part: the backends of this system, and on Linux
//! the kqueue backend in a model of each system's kernel.

use std::io;

use polyloop_reactor::conformance::KqueueSystem;
use polyloop_reactor::{Backend, Selector};

#[cfg(any(target_os = "linux", target_os = "android"))]
use polyloop_reactor::conformance::{KqueueModel, MODELS};

type Open = fn() -> io::Result<Box<dyn Selector>>;

/// One implementation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
    /// What its kqueue is, if it has one.
    pub(crate) kqueue: Option<KqueueSystem>,
    /// Opens a model. None is the backend.
    open: Option<Open>,
}

impl Implementation {
    /// Returns all implementations that there are here.
    pub(crate) fn all() -> Vec<Implementation> {
        let backends = Backend::available().iter().map(|&backend| Implementation {
            name: backend.name(),
            backend,
            kqueue: (backend == Backend::Kqueue).then(KqueueSystem::here),
            open: None,
        });
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let backends = backends.chain(MODELS.iter().map(Implementation::of_model));
        backends.collect()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn of_model(model: &KqueueModel) -> Implementation {
        Implementation {
            name: model.name,
            backend: Backend::Kqueue,
            kqueue: Some(model.system),
            open: Some(model.open),
        }
    }

    pub(crate) fn open(self) -> io::Result<Box<dyn Selector>> {
        match self.open {
            Some(open) => open(),
            None => self.backend.open(),
        }
    }

    /// Reports whether it is kqueue on Linux on top of a library.
    pub(crate) fn is_library(self) -> bool {
        self.kqueue.is_some_and(|system| system.name == KqueueSystem::LIBRARY.name)
    }
}
