//! Aim: no token is assigned twice, however many sources have been registered.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use polyloop_reactor::{Backend, Reactor, Token, Watched};

struct Socket(UnixStream);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Socket {
    fn is_latest(&self, _token: Token) -> bool {
        true
    }
}

/// Makes a reactor whose slots have that many generations each.
fn old_reactor(n_generations: u32) -> Reactor {
    let selector = Backend::Poll.open().unwrap();
    Reactor::new(selector, 3, Token::MAX_GENERATION - n_generations)
}

#[test]
fn a_slot_is_not_reused_after_its_last_generation() {
    let mut reactor = old_reactor(3);
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let socket = Arc::new(Socket(UnixStream::pair().unwrap().0));
        let token = reactor.register(socket).unwrap();
        assert!(seen.insert(token), "{token:?} was assigned twice");
        assert!(reactor.contains(token) && reactor.sources() == 1);
        assert!(token.generation() < Token::MAX_GENERATION && token.owner() == 3);
        drop(reactor.release(token));
        assert!(!reactor.contains(token) && reactor.sources() == 0);
    }
    assert_eq!(seen.iter().map(|token| token.slot()).max(), Some(6), "three generations each");
    assert_eq!(reactor.next_generation(), Token::MAX_GENERATION);
    assert!(seen.iter().all(|token| reactor.release(*token).is_none()));
}

#[test]
fn the_next_reactor_with_the_number_starts_after_all_its_generations() {
    let mut reactor = old_reactor(1_000);
    assert_eq!(reactor.next_generation(), Token::MAX_GENERATION - 1_000);
    let (first, second) = UnixStream::pair().unwrap();
    let first = reactor.register(Arc::new(Socket(first))).unwrap();
    let second = reactor.register(Arc::new(Socket(second))).unwrap();
    assert_eq!(first.generation(), second.generation());
    drop(reactor.release(first));
    assert!(reactor.next_generation() > first.generation());
}
