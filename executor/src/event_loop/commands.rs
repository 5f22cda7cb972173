//! Handling messages from other threads.

use std::mem;

use polyloop_reactor::{Direction, Token, WaiterKey};

use crate::catch::quietly;
use crate::event_loop::EventLoop;
use crate::event_loop::mailbox::Command;
use crate::event_loop::trim::trim;
use crate::tasks::wakers::drop_of;

impl EventLoop {
    /// Takes and handles all messages: first wakes, then commands.
    #[cold]
    pub(super) fn take_messages(&self) {
        self.clear_current_task();
        if self.fork.is_foreign() {
            // The messages are the parent's, and their lock may have been copied while locked.
            return;
        }
        let mut buffers = self.buffers.borrow_mut();
        let mut wakes = mem::take(&mut buffers.wakes);
        let mut commands = mem::take(&mut buffers.commands);
        drop(buffers);
        self.mailbox.take(&mut wakes, &mut commands);
        let (n_wakes, n_commands) = (wakes.len(), commands.len());
        let mut tasks = self.tasks.borrow_mut();
        for id in wakes.drain(..) {
            tasks.wake(id);
        }
        drop(tasks);
        self.handle_commands(commands.drain(..));
        trim(&mut wakes, n_wakes);
        trim(&mut commands, n_commands);
        let mut buffers = self.buffers.borrow_mut();
        buffers.wakes = wakes;
        buffers.commands = commands;
    }

    /// Handles commands. A command may drop foreign values, such as a socket's owner, whose panic must not prevent the
    /// later commands.
    fn handle_commands(&self, mut commands: impl ExactSizeIterator<Item = Command>) {
        while commands.len() > 0 {
            quietly(|| commands.by_ref().for_each(|command| self.handle_command(command)));
        }
    }

    pub(super) fn handle_command(&self, command: Command) {
        match command {
            Command::Abort(id) => self.abort(id),
            Command::Detach(id) => drop(self.detach(id)),
            Command::Release(token) => self.release(token),
            Command::Forget(token, direction, key) => self.forget(token, direction, key),
            Command::CancelTimer(slot) => self.cancel_timer(slot),
            Command::MoveTimer(slot) => self.release_timer(slot),
            Command::ReleaseTime => self.release_time(),
            Command::Run(call) => call(),
        }
    }

    /// Unregisters a source. Panics if its owner's destructor panics.
    pub(crate) fn release(&self, token: Token) {
        let released = self.reactor.borrow_mut().release(token);
        drop(released);
    }

    /// Removes a waiter of a source.
    pub(crate) fn forget(&self, token: Token, direction: Direction, key: WaiterKey) {
        let waker = self.reactor.borrow_mut().forget(token, direction, key);
        drop_of(waker);
    }
}
