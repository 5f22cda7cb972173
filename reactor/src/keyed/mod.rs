//! A selector whose registrations carry user-defined data, as in Python's `selectors`.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use slab::Slab;

use crate::{
    Backend, Events, Interest, Mode, Notifier, Selector, SystemCalls, Token, WaitEnd,
    default_selector,
};

pub use key::{Key, Keys, Ready};

mod key;

/// Attaches data of any type to each descriptor that a selector watches.
///
/// It wraps any [`Selector`] and works like Python's `selectors`: registrations can be
/// looked up by descriptor and iterated over, and a wait returns pairs of a [`Key`] and its
/// readiness. The data may be a callback, a state, a number, or the socket itself
/// ([`register_owned`](KeyedSelector::register_owned)).
///
/// # Examples
/// Callbacks as data:
/// ```
/// use std::io::{self, Read, Write};
/// use std::os::unix::net::UnixStream;
/// use polyloop::selectors::{Interest, KeyedSelector, Mode};
///
/// type Callback = fn(&UnixStream) -> io::Result<String>;
///
/// fn greet(mut stream: &UnixStream) -> io::Result<String> {
///     let mut buffer = [0; 64];
///     let n_bytes = stream.read(&mut buffer)?;
///     Ok(format!("got {}", String::from_utf8_lossy(&buffer[..n_bytes])))
/// }
///
/// let (reader, mut writer) = UnixStream::pair()?;
/// let mut selector: KeyedSelector<Callback> = KeyedSelector::new()?;
/// selector.register(&reader, Interest::READABLE, Mode::Level, greet)?;
///
/// writer.write_all(b"hello")?;
/// for (key, readiness) in selector.select(None)? {
///     assert!(readiness.is_readable());
///     assert_eq!((key.data())(&reader)?, "got hello");
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A callback that registers needs the selector for itself, while what a wait returns borrows it. Take
/// the events out first, each with its token and a copy of the callback, and ask before each call
/// whether its registration still exists: an earlier callback of the batch may have ended it.
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use std::rc::Rc;
/// use polyloop::selectors::{Interest, KeyedSelector, Mode, Token};
///
/// /// What is to be done when a descriptor is readable.
/// #[derive(Clone)]
/// struct Callback(Rc<dyn Fn(&mut KeyedSelector<Callback>, Token) -> io::Result<()>>);
///
/// fn serve(listener: Rc<TcpListener>) -> Callback {
///     Callback(Rc::new(move |selector, _| {
///         let stream = Rc::new(listener.accept()?.0);
///         selector.register(&stream, Interest::READABLE, Mode::Level, echo(stream.clone()))?;
///         Ok(())
///     }))
/// }
///
/// fn echo(stream: Rc<TcpStream>) -> Callback {
///     Callback(Rc::new(move |selector, _| {
///         let mut buffer = [0; 1024];
///         match (&*stream).read(&mut buffer)? {
///             // The data is what keeps the stream open: it is closed after this.
///             0 => selector.unregister(&stream).map(drop),
///             n_bytes => (&*stream).write_all(&buffer[..n_bytes]),
///         }
///     }))
/// }
///
/// let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
/// let addr = listener.local_addr()?;
/// let mut selector = KeyedSelector::new()?;
/// selector.register(&listener, Interest::READABLE, Mode::Level, serve(listener.clone()))?;
///
/// let client = std::thread::spawn(move || {
///     let mut stream = TcpStream::connect(addr)?;
///     stream.write_all(b"hello")?;
///     let mut echoed = [0; 5];
///     stream.read_exact(&mut echoed).map(|()| echoed)
/// });
/// let mut n_connections = 0;
/// while n_connections == 0 || selector.len() > 1 {
///     let ready: Vec<(Token, Callback)> =
///         selector.select(None)?.map(|(key, _)| (key.token(), key.data().clone())).collect();
///     for (token, callback) in ready {
///         if selector.key(token).is_some() {
///             (callback.0)(&mut selector, token)?;
///         }
///     }
///     n_connections = n_connections.max(selector.len() - 1);
/// }
/// assert_eq!(&client.join().unwrap()?, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct KeyedSelector<D> {
    selector: Box<dyn Selector>,
    /// Invariant: one key for each registration of the selector, at the slot of its token.
    keys: Slab<Key<D>>,
    /// By slot: the generation of its next token.
    generations: Vec<u64>,
    events: Events,
}

/// The number of events that one wait returns at most, by default. The next wait returns the rest.
const CAPACITY: usize = 256;

/// The generations of a slot: they fill a token's generation and owner.
const MAX_GENERATION: u64 = (1 << (Token::GENERATION_BITS + Token::OWNER_BITS)) - 1;

impl<D> KeyedSelector<D> {
    /// Wraps a new selector of the backend in `POLYLOOP_BACKEND`, or of the best one that works.
    ///
    /// # Errors
    /// See [`default_selector`].
    pub fn new() -> io::Result<KeyedSelector<D>> {
        Ok(KeyedSelector::with_selector(default_selector()?, CAPACITY))
    }

    /// Wraps a new selector of `backend`.
    ///
    /// # Errors
    /// See [`Backend::open`].
    pub fn open(backend: Backend) -> io::Result<KeyedSelector<D>> {
        Ok(KeyedSelector::with_selector(backend.open()?, CAPACITY))
    }

    /// Wraps `selector`, which must have no registrations. One wait returns up to `capacity` events.
    ///
    /// # Panics
    /// Panics if `capacity` is zero.
    #[track_caller]
    pub fn with_selector(selector: Box<dyn Selector>, capacity: usize) -> KeyedSelector<D> {
        debug_assert!(selector.registrations().is_empty(), "registered without a key");
        let events = Events::with_capacity(capacity);
        KeyedSelector { selector, keys: Slab::new(), generations: Vec::new(), events }
    }

    /// Starts watching `fd`, with `data` attached. The returned token identifies the registration.
    ///
    /// Unregister `fd` before you close it. If the data owns the descriptor, use
    /// [`register_owned`](KeyedSelector::register_owned).
    ///
    /// # Errors
    /// Returns the errors of [`Selector::register`], and drops the data.
    pub fn register(
        &mut self,
        fd: impl AsFd,
        interest: Interest,
        mode: Mode,
        data: D,
    ) -> io::Result<Token> {
        let fd = fd.as_fd();
        let token = self.next_token()?;
        self.selector.register(fd, token, interest, mode)?;
        Ok(self.insert(Key { fd: fd.as_raw_fd(), token, interest, mode, data }))
    }

    /// Changes the interest and the mode of a registered `fd`, and re-arms a one-shot.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::modify`].
    pub fn modify(&mut self, fd: impl AsFd, interest: Interest, mode: Mode) -> io::Result<()> {
        let fd = fd.as_fd();
        let slot = self.slot_of(fd)?;
        let key = &mut self.keys[slot];
        self.selector.modify(fd, key.token, interest, mode)?;
        (key.interest, key.mode) = (interest, mode);
        Ok(())
    }

    /// Replaces the data of a registered `fd` and returns the former data. Makes no system call.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if `fd` is not registered.
    pub fn replace(&mut self, fd: impl AsFd, data: D) -> io::Result<D> {
        let slot = self.slot_of(fd.as_fd())?;
        Ok(mem::replace(&mut self.keys[slot].data, data))
    }

    /// Stops watching `fd` and returns its data.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::unregister`].
    pub fn unregister(&mut self, fd: impl AsFd) -> io::Result<D> {
        let fd = fd.as_fd();
        let slot = self.slot_of(fd)?;
        self.selector.unregister(fd)?;
        Ok(self.keys.remove(slot).data)
    }

    /// Returns the key of `fd`, if it is registered.
    pub fn get(&self, fd: impl AsFd) -> Option<&Key<D>> {
        let token = self.selector.get(fd.as_fd())?.token;
        self.key(token)
    }

    /// Returns the key of the registration `token`, if it still exists.
    ///
    /// Handling one event may end another registration of the same batch, whose descriptor's number may
    /// be registered again: the token distinguishes the two.
    pub fn key(&self, token: Token) -> Option<&Key<D>> {
        self.keys.get(token.slot() as usize).filter(|key| key.token == token)
    }

    /// Returns a mutable reference to the key of the registration `token`, if it still exists.
    pub fn key_mut(&mut self, token: Token) -> Option<&mut Key<D>> {
        self.keys.get_mut(token.slot() as usize).filter(|key| key.token == token)
    }

    /// Iterates over the registrations, in no particular order.
    pub fn iter(&self) -> Keys<'_, D> {
        Keys { keys: self.keys.iter() }
    }

    /// Returns the number of registered descriptors.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Waits up to `timeout` and returns the keys of the ready descriptors with their readiness.
    ///
    /// The keys borrow the selector. For callbacks that change it, see
    /// [the second example](KeyedSelector#examples).
    ///
    /// Without a timeout the wait has no limit; a timeout of zero returns at once. There are no keys if a
    /// signal or a [`Notifier`] ended the wait: see [`wait_end`](KeyedSelector::wait_end).
    ///
    /// # Errors
    /// Returns the errors of [`Selector::select`].
    pub fn select(&mut self, timeout: Option<Duration>) -> io::Result<Ready<'_, D>> {
        self.selector.select(&mut self.events, timeout)?;
        Ok(Ready { events: self.events.iter(), keys: &self.keys })
    }

    /// Returns what ended the last wait.
    pub fn wait_end(&self) -> WaitEnd {
        self.events.wait_end()
    }

    /// Returns a handle that ends a wait from another thread.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::notifier`].
    pub fn notifier(&self) -> io::Result<Notifier> {
        self.selector.notifier()
    }

    /// Returns the backend of the selector.
    pub fn backend(&self) -> Backend {
        self.selector.backend()
    }

    /// Returns the selector's own descriptor: see [`Selector::pollable_fd`].
    pub fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.selector.pollable_fd()
    }

    /// Returns the number of system calls so far.
    pub fn system_calls(&self) -> SystemCalls {
        self.selector.system_calls()
    }

    /// Closes the selector and returns the keys of all registrations.
    pub fn close(self) -> Vec<Key<D>> {
        self.keys.into_iter().map(|(_, key)| key).collect()
    }

    fn next_token(&self) -> io::Result<Token> {
        let slot = self.keys.vacant_key();
        if slot > Token::MAX_SLOT as usize {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "register: a selector watches 16,777,216 descriptors at most",
            ));
        }
        let generation = self.generations.get(slot).copied().unwrap_or(0);
        if generation > MAX_GENERATION {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "register: a selector gives each slot 1,099,511,627,776 tokens at most",
            ));
        }
        let owner = (generation >> Token::GENERATION_BITS) as u16;
        // The upper bits are cut off: they are in the owner.
        Ok(Token::new(owner, generation as u32, slot as u32))
    }

    /// Keeps a key that was registered with the token of [`next_token`](Self::next_token).
    fn insert(&mut self, key: Key<D>) -> Token {
        let token = key.token;
        match self.generations.get_mut(token.slot() as usize) {
            Some(next) => *next += 1,
            None => self.generations.push(1),
        }
        self.keys.insert(key);
        token
    }

    fn slot_of(&self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let key = self.get(fd).ok_or_else(|| {
            let message = format!("fd {} is not registered", fd.as_raw_fd());
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        Ok(key.token.slot() as usize)
    }
}

/// Methods for data that owns its descriptor.
impl<D: AsFd> KeyedSelector<D> {
    /// Starts watching the descriptor that `data` owns. The returned token identifies the registration.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::register`], and drops the data with its descriptor.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use polyloop::selectors::{Interest, KeyedSelector, Mode};
    ///
    /// let (one, other) = UnixStream::pair()?;
    /// let mut selector = KeyedSelector::new()?;
    /// let token = selector.register_owned(one, Interest::WRITABLE, Mode::Level)?;
    ///
    /// let (key, _) = selector.select(None)?.next().unwrap();
    /// assert_eq!(key.token(), token);
    /// let one: UnixStream = selector.unregister_owned(token)?;
    /// # drop((one, other));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_owned(&mut self, data: D, interest: Interest, mode: Mode) -> io::Result<Token> {
        let token = self.next_token()?;
        self.selector.register(data.as_fd(), token, interest, mode)?;
        let fd = data.as_fd().as_raw_fd();
        Ok(self.insert(Key { fd, token, interest, mode, data }))
    }

    /// Changes the interest and the mode of the registration `token`, and re-arms a one-shot.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if the registration has ended; otherwise the errors of
    /// [`Selector::modify`].
    pub fn modify_owned(&mut self, token: Token, interest: Interest, mode: Mode) -> io::Result<()> {
        let key = find(&mut self.keys, token)?;
        self.selector.modify(key.data.as_fd(), token, interest, mode)?;
        (key.interest, key.mode) = (interest, mode);
        Ok(())
    }

    /// Ends the registration `token` and returns its data.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if the registration has ended; otherwise the errors of
    /// [`Selector::unregister`].
    pub fn unregister_owned(&mut self, token: Token) -> io::Result<D> {
        let key = find(&mut self.keys, token)?;
        self.selector.unregister(key.data.as_fd())?;
        Ok(self.keys.remove(token.slot() as usize).data)
    }
}

fn find<D>(keys: &mut Slab<Key<D>>, token: Token) -> io::Result<&mut Key<D>> {
    let key = keys.get_mut(token.slot() as usize).filter(|key| key.token == token);
    key.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{token:?} is not registered"))
    })
}

impl<D> fmt::Debug for KeyedSelector<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedSelector")
            .field("selector", &self.selector)
            .field("n_keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<'a, D> IntoIterator for &'a KeyedSelector<D> {
    type Item = &'a Key<D>;
    type IntoIter = Keys<'a, D>;

    fn into_iter(self) -> Keys<'a, D> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::Readiness;

    const LOOK: Option<Duration> = Some(Duration::ZERO);

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    /// Runs a test over every backend of the system.
    fn with_each<D>(test: impl Fn(KeyedSelector<D>)) {
        for backend in Backend::available() {
            test(KeyedSelector::open(*backend).unwrap());
        }
    }

    #[test]
    fn data_of_any_type_comes_back_with_the_event() {
        with_each(|mut selector: KeyedSelector<String>| {
            let (one, _other) = pair();
            let data = "one".to_owned();
            selector.register(&one, Interest::WRITABLE, Mode::Level, data).unwrap();
            let ready: Vec<_> = selector.select(LOOK).unwrap().collect();
            assert_eq!(ready.len(), 1);
            assert_eq!((ready[0].0.data().as_str(), ready[0].1), ("one", Readiness::WRITABLE));
            assert_eq!(selector.get(&one).unwrap().fd(), one.as_raw_fd());
            assert_eq!(selector.unregister(&one).unwrap(), "one");
            assert!(selector.is_empty() && selector.get(&one).is_none());
        });
    }

    #[test]
    fn replacing_data_costs_no_system_call() {
        with_each(|mut selector: KeyedSelector<u32>| {
            let (one, _other) = pair();
            selector.register(&one, Interest::WRITABLE, Mode::Level, 1).unwrap();
            let before = selector.system_calls();
            assert_eq!(selector.replace(&one, 2).unwrap(), 1);
            assert_eq!(selector.system_calls(), before);
            assert_eq!(*selector.select(LOOK).unwrap().next().unwrap().0.data(), 2);
        });
    }

    #[test]
    fn a_failed_call_leaves_no_key() {
        with_each(|mut selector: KeyedSelector<u32>| {
            let (one, _other) = pair();
            let error = selector.register(&one, Interest::NONE, Mode::Level, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(
                selector.modify(&one, Interest::READABLE, Mode::Level).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            assert_eq!(selector.replace(&one, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(selector.unregister(&one).unwrap_err().kind(), io::ErrorKind::NotFound);
            selector.register(&one, Interest::READABLE, Mode::Level, 1).unwrap();
            let error = selector.register(&one, Interest::READABLE, Mode::Level, 2).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(selector.iter().map(|key| *key.data()).collect::<Vec<_>>(), [1]);
        });
    }

    #[test]
    fn modify_changes_the_key() {
        with_each(|mut selector: KeyedSelector<()>| {
            let (one, _other) = pair();
            selector.register(&one, Interest::READABLE, Mode::Level, ()).unwrap();
            assert!(selector.select(LOOK).unwrap().next().is_none());
            selector.modify(&one, Interest::WRITABLE, Mode::OneShot).unwrap();
            let key = selector.get(&one).unwrap();
            assert_eq!((key.interest(), key.mode()), (Interest::WRITABLE, Mode::OneShot));
            assert!(selector.select(LOOK).unwrap().next().is_some());
        });
    }

    #[test]
    fn the_next_owner_of_a_slot_has_another_token() {
        with_each(|mut selector: KeyedSelector<UnixStream>| {
            let (one, other) = pair();
            let first = selector.register_owned(one, Interest::WRITABLE, Mode::Level).unwrap();
            let one = selector.unregister_owned(first).unwrap();
            let second = selector.register_owned(other, Interest::WRITABLE, Mode::Level).unwrap();
            assert!(selector.key(first).is_none());
            let error = selector.modify_owned(first, Interest::READABLE, Mode::Level).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert_eq!(
                selector.unregister_owned(first).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            selector.modify_owned(second, Interest::READABLE, Mode::Level).unwrap();
            assert!(selector.select(LOOK).unwrap().next().is_none());
            drop(one);
            let left: Vec<UnixStream> = selector.close().into_iter().map(Key::into_data).collect();
            assert_eq!(left.len(), 1);
        });
    }

    #[test]
    fn no_token_is_given_twice() {
        let (one, other) = pair();
        let mut selector = KeyedSelector::new().unwrap();
        let mut register = |generation| {
            selector.generations = vec![generation];
            let token = selector.register(&one, Interest::READABLE, Mode::Level, ())?;
            selector.unregister(&one).unwrap();
            Ok::<_, io::Error>(token)
        };
        let first = register(0).unwrap();
        // More than a token's generation can hold.
        assert_ne!(register(u64::from(Token::MAX_GENERATION) + 1).unwrap(), first);
        register(MAX_GENERATION).unwrap();
        let error = register(MAX_GENERATION + 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        drop(other);
    }
}
