//! The model: the ends of pairs as plain numbers, and what poll on Linux reports of each.
//!
//! An end is an open file, with any number of descriptors. The model records each operation and its result, and
//! has the rules of each kind of pair. Where a rule depends on the size of a kernel buffer, the flag is optional.

use std::net::Shutdown;

use polyloop_reactor::{Interest, Readiness};

use crate::script::Kind;

const R: Readiness = Readiness::READABLE;
const W: Readiness = Readiness::WRITABLE;
const PRIORITY: Readiness = Readiness::PRIORITY;
const ERROR: Readiness = Readiness::ERROR;
const HANG_UP: Readiness = Readiness::HANG_UP;
const CLOSED: Readiness = Readiness::READ_CLOSED;

/// Up to this many bytes, every kind of buffer has space for another write.
const MAX_BYTES_WITH_ROOM: usize = 8_192;
const MAX_WRITES_WITH_ROOM: usize = 10;

pub(crate) type EndId = usize;

/// The flags that poll reports of an end with full interest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Reported.
    pub(crate) sure: Readiness,
    /// Possibly reported.
    pub(crate) open: Readiness,
}

/// Counts the events of an end that an edge-triggered selector may or must report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct News {
    /// Data or the end of the stream arrived.
    pub(crate) data: u32,
    /// Out-of-band data arrived.
    pub(crate) urgent: u32,
    /// A full buffer was emptied.
    pub(crate) room: u32,
    /// An error or a hang-up occurred.
    pub(crate) trouble: u32,
    /// Any operation on this end or its peer.
    pub(crate) any: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doubt {
    No,
    Maybe,
    Yes,
}

#[derive(Clone, Copy, Debug)]
struct Urgent {
    /// How many bytes come before it.
    n_before: usize,
    is_taken: bool,
}

#[derive(Clone, Debug)]
struct End {
    kind: Kind,
    peer: EndId,
    n_descriptors: usize,
    can_read: bool,
    can_write: bool,
    /// Bytes, or datagrams.
    n_unread: usize,
    /// The maximum number of writes that they arrived in.
    n_writes: usize,
    /// The last write to this end would have blocked, and nothing has been read since.
    is_full: bool,
    urgent: Option<Urgent>,
    /// Nothing more will arrive.
    is_read_shut: bool,
    /// Nothing more can be sent.
    is_write_shut: bool,
    /// The same, because this end shut it down.
    shut_itself: (bool, bool),
    error: Doubt,
    news: News,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    ends: Vec<End>,
}

impl Model {
    /// Adds a pair with one descriptor each.
    pub(crate) fn open(&mut self, kind: Kind) -> (EndId, EndId) {
        let id = self.ends.len();
        let end = End {
            kind,
            peer: id + 1,
            n_descriptors: 1,
            can_read: true,
            can_write: kind != Kind::Pipe,
            n_unread: 0,
            n_writes: 0,
            is_full: false,
            urgent: None,
            is_read_shut: false,
            is_write_shut: false,
            shut_itself: (false, false),
            error: Doubt::No,
            news: News::default(),
        };
        let other = End { peer: id, can_read: kind != Kind::Pipe, can_write: true, ..end.clone() };
        self.ends.extend([end, other]);
        (id, id + 1)
    }

    pub(crate) fn kind(&self, id: EndId) -> Kind {
        self.ends[id].kind
    }

    /// Returns the direction that an end of a pipe is used in, or `None` for other kinds.
    pub(crate) fn pipe_direction(&self, id: EndId) -> Option<Interest> {
        let end = &self.ends[id];
        let direction = if end.can_read { Interest::READABLE } else { Interest::WRITABLE };
        (end.kind == Kind::Pipe).then_some(direction)
    }

    /// Returns whether nothing more can be written to it.
    pub(crate) fn is_write_shut(&self, id: EndId) -> bool {
        self.ends[id].is_write_shut
    }

    /// Returns whether the kernel may deliver with a delay.
    pub(crate) fn is_network(&self, id: EndId) -> bool {
        matches!(self.ends[id].kind, Kind::Tcp | Kind::Udp)
    }

    pub(crate) fn is_open(&self, id: EndId) -> bool {
        self.ends[id].n_descriptors > 0
    }

    pub(crate) fn n_descriptors(&self, id: EndId) -> usize {
        self.ends[id].n_descriptors
    }

    pub(crate) fn news(&self, id: EndId) -> News {
        self.ends[id].news
    }

    pub(crate) fn facts(&self, id: EndId) -> Facts {
        let end = &self.ends[id];
        let peer_is_open = self.is_open(end.peer);
        let mut facts = Facts { sure: Readiness::NONE, open: Readiness::NONE };
        let mut say = |fact, doubt| match doubt {
            Doubt::Yes => facts.sure |= fact,
            Doubt::Maybe => facts.open |= fact,
            Doubt::No => {}
        };
        if end.can_read && (end.n_unread > 0 || end.is_read_shut) {
            say(R, Doubt::Yes);
        }
        if end.can_write {
            say(W, self.room(id));
        }
        if end.urgent.is_some_and(|urgent| !urgent.is_taken) {
            say(PRIORITY, Doubt::Yes);
        }
        if end.kind == Kind::Pipe {
            if !peer_is_open {
                say(if end.can_read { HANG_UP } else { ERROR }, Doubt::Yes);
            }
            return facts;
        }
        say(ERROR, end.error);
        if end.is_read_shut {
            say(CLOSED, Doubt::Yes);
        }
        if end.is_read_shut && end.is_write_shut {
            say(HANG_UP, Doubt::Yes);
        }
        facts
    }

    /// Returns whether the buffer of `id` has space for a write.
    fn room(&self, id: EndId) -> Doubt {
        let end = &self.ends[id];
        let peer = &self.ends[end.peer];
        // A pipe keeps data without a reader.
        let keeps = self.is_open(end.peer) || end.kind == Kind::Pipe;
        if matches!(end.kind, Kind::Tcp | Kind::Udp) || !keeps {
            Doubt::Yes
        } else if peer.is_full {
            Doubt::No
        } else if peer.n_unread <= MAX_BYTES_WITH_ROOM && peer.n_writes <= MAX_WRITES_WITH_ROOM {
            Doubt::Yes
        } else {
            Doubt::Maybe
        }
    }

    /// Returns whether the model can predict the result of a write.
    pub(crate) fn may_write(&self, id: EndId) -> bool {
        let end = &self.ends[id];
        let peer = &self.ends[end.peer];
        let peer_is_open = self.is_open(end.peer);
        match end.kind {
            Kind::Unix | Kind::Pipe => end.can_write,
            Kind::Udp => peer.n_writes < MAX_WRITES_WITH_ROOM,
            // A write to an end that shut down both directions resets the connection.
            Kind::Tcp => {
                !(peer_is_open && (peer.n_unread > 4_096 || peer.shut_itself == (true, true)))
            }
        }
    }

    pub(crate) fn may_fill(&self, id: EndId) -> bool {
        matches!(self.ends[id].kind, Kind::Unix | Kind::Pipe) && self.may_write(id)
    }

    /// Returns whether the model can predict the effect of out-of-band data sent from `id`.
    pub(crate) fn may_urge(&self, id: EndId) -> bool {
        let end = &self.ends[id];
        let peer = &self.ends[end.peer];
        let is_plain = |end: &End| !end.is_read_shut && !end.is_write_shut;
        end.kind == Kind::Tcp
            && self.is_open(end.peer)
            && is_plain(end)
            && is_plain(peer)
            && peer.urgent.is_none()
            && peer.n_unread <= 4_096
    }

    pub(crate) fn may_take_urgent(&self, id: EndId) -> bool {
        let is_waiting = self.ends[id].urgent.is_some_and(|urgent| !urgent.is_taken);
        is_waiting && self.ends[id].error == Doubt::No
    }

    /// Returns how much a read of `n_bytes` returns, or `None` if the model cannot predict it.
    pub(crate) fn readable(&self, id: EndId, n_bytes: usize) -> Option<usize> {
        let end = &self.ends[id];
        let n_ready = match end.urgent {
            // Reading at the mark would discard the byte.
            Some(urgent) if urgent.n_before == 0 && end.n_unread == 0 => return None,
            Some(urgent) if urgent.n_before > 0 => urgent.n_before,
            _ => end.n_unread,
        };
        match end.kind {
            _ if !end.can_read => None,
            Kind::Udp if end.error != Doubt::No => Some(0),
            Kind::Udp => Some(n_ready.min(1)),
            _ => Some(n_ready.min(n_bytes)),
        }
    }

    /// Records that a read or write was tried and would have blocked: the system may wake the peer nevertheless.
    pub(crate) fn tried(&mut self, id: EndId) {
        self.touch(id);
    }

    /// Records that `n_bytes`, or one datagram, were written.
    pub(crate) fn wrote(&mut self, id: EndId, n_bytes: usize) {
        let (kind, peer_id) = (self.ends[id].kind, self.ends[id].peer);
        self.touch(id);
        if !self.is_open(peer_id) {
            match kind {
                Kind::Tcp => self.reset(id),
                Kind::Udp => self.fail(id, Doubt::Yes),
                _ => {}
            }
            return;
        }
        let peer = &mut self.ends[peer_id];
        peer.n_unread += if kind == Kind::Udp { 1 } else { n_bytes };
        peer.n_writes += 1;
        peer.news.data += 1;
    }

    /// Records that the last write would have blocked.
    pub(crate) fn filled(&mut self, id: EndId) {
        let peer_id = self.ends[id].peer;
        self.touch(id);
        self.ends[peer_id].is_full = true;
    }

    /// Records that `n_bytes`, or one datagram, were read.
    pub(crate) fn read(&mut self, id: EndId, n_bytes: usize) {
        let peer_id = self.ends[id].peer;
        let before = self.room(peer_id);
        self.touch(id);
        let end = &mut self.ends[id];
        let n_taken = if end.kind == Kind::Udp { 1 } else { n_bytes };
        end.n_unread = end.n_unread.saturating_sub(n_taken);
        end.is_full = false;
        if end.n_unread == 0 {
            end.n_writes = 0;
        }
        if let Some(urgent) = &mut end.urgent {
            if urgent.n_before == 0 {
                end.urgent = None;
            } else {
                urgent.n_before = urgent.n_before.saturating_sub(n_bytes);
            }
        }
        if before == Doubt::No && self.room(peer_id) == Doubt::Yes {
            self.ends[peer_id].news.room += 1;
        }
    }

    /// Records that a read or write returned an error, which may have consumed it.
    pub(crate) fn failed(&mut self, id: EndId) {
        self.touch(id);
        let end = &mut self.ends[id];
        end.error = match (end.kind, end.error) {
            (_, Doubt::No) | (Kind::Udp, _) => Doubt::No,
            _ => Doubt::Maybe,
        };
    }

    /// Records that a selector may have consumed the error; reports whether there was one.
    pub(crate) fn maybe_took_error(&mut self, id: EndId) -> bool {
        let end = &mut self.ends[id];
        let had_error = end.error == Doubt::Yes;
        if had_error {
            end.error = Doubt::Maybe;
        }
        had_error
    }

    pub(crate) fn urged(&mut self, id: EndId) {
        let peer_id = self.ends[id].peer;
        self.touch(id);
        let peer = &mut self.ends[peer_id];
        peer.urgent = Some(Urgent { n_before: peer.n_unread, is_taken: false });
        peer.news.urgent += 1;
    }

    pub(crate) fn took_urgent(&mut self, id: EndId) {
        self.touch(id);
        if let Some(urgent) = &mut self.ends[id].urgent {
            urgent.is_taken = true;
        }
    }

    /// Records that a stream was shut down by its own end.
    pub(crate) fn shut(&mut self, id: EndId, how: Shutdown) {
        let (kind, peer_id) = (self.ends[id].kind, self.ends[id].peer);
        self.touch(id);
        let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
        let end = &mut self.ends[id];
        end.is_read_shut |= read;
        end.is_write_shut |= write;
        end.shut_itself.0 |= read;
        end.shut_itself.1 |= write;
        if write {
            self.end_stream(peer_id);
        }
        if read && kind == Kind::Unix {
            self.end_writing(peer_id);
        }
    }

    pub(crate) fn duplicated(&mut self, id: EndId) {
        self.ends[id].n_descriptors += 1;
    }

    /// Records that one descriptor was closed.
    pub(crate) fn closed(&mut self, id: EndId) {
        self.touch(id);
        self.ends[id].n_descriptors -= 1;
        if self.is_open(id) {
            return;
        }
        let end = self.ends[id].clone();
        let had_unread = end.n_unread > 0 || end.urgent.is_some();
        let peer_shut_writing = self.ends[end.peer].shut_itself.1;
        match end.kind {
            Kind::Udp => {}
            Kind::Pipe => {
                let peer = &mut self.ends[end.peer];
                peer.news.data += 1;
                peer.news.trouble += 1;
            }
            Kind::Unix => {
                let room = self.room(end.peer);
                self.end_stream(end.peer);
                self.end_writing(end.peer);
                if had_unread {
                    self.fail(end.peer, Doubt::Yes);
                }
                self.ends[end.peer].news.room += u32::from(room == Doubt::Yes && end.is_full);
            }
            // Both ends have shut down: the connection may have ended already, or be reset.
            Kind::Tcp if had_unread && end.shut_itself.1 && peer_shut_writing => {
                self.ends[end.peer].error = Doubt::Maybe;
            }
            Kind::Tcp if had_unread => self.reset(end.peer),
            Kind::Tcp => self.end_stream(end.peer),
        }
    }

    /// The stream into `id` ends, if it had not ended before.
    fn end_stream(&mut self, id: EndId) {
        let end = &mut self.ends[id];
        if !end.is_read_shut {
            end.is_read_shut = true;
            end.news.data += 1;
            end.news.trouble += u32::from(end.is_write_shut);
        }
    }

    /// The stream out of `id` ends because its peer closed.
    fn end_writing(&mut self, id: EndId) {
        let end = &mut self.ends[id];
        if !end.is_write_shut {
            end.is_write_shut = true;
            end.news.trouble += u32::from(end.is_read_shut);
        }
    }

    fn reset(&mut self, id: EndId) {
        self.end_stream(id);
        self.end_writing(id);
        self.fail(id, Doubt::Yes);
    }

    fn fail(&mut self, id: EndId, error: Doubt) {
        self.ends[id].error = error;
        self.ends[id].news.trouble += 1;
    }

    fn touch(&mut self, id: EndId) {
        let peer_id = self.ends[id].peer;
        self.ends[id].news.any += 1;
        self.ends[peer_id].news.any += 1;
    }
}
