//! What a handle requests of a task, on any thread: at once on the task's own, by a message elsewhere.

use polyloop_reactor::Token;

use crate::event_loop::local_loops::if_local;
use crate::event_loop::mailbox::{self, Command};
use crate::join::packet::Packet;
use crate::raw::current::current;

/// Aborts the task that `id` names, on any thread.
pub(crate) fn abort(id: Token) {
    if if_local(id.owner(), |event_loop| event_loop.abort(id)).is_none() {
        mailbox::send(id.owner(), Command::Abort(id));
    }
}

/// Sets a task's name, on any thread.
pub(crate) fn set_name(id: Token, name: String) {
    let mut name = Some(name);
    if_local(id.owner(), |event_loop| {
        if let Some(name) = name.take() {
            event_loop.set_name(id, name);
        }
    });
    if let Some(name) = name {
        let message = move || {
            current(|event_loop| event_loop.set_name(id, name));
        };
        mailbox::send(id.owner(), Command::Run(Box::new(message)));
    }
}

/// Records the task that fills a packet, and forwards earlier requests to it.
pub(crate) fn bind<T>(packet: &Packet<T>, task: Token) {
    let requests = packet.set_task(task);
    if let Some(name) = requests.name {
        set_name(task, name);
    }
    if requests.abort {
        abort(task);
    }
}
