//! The floor: a list of boxed futures and a queue of their numbers.
//!
//! It has no wakers: a task that yields queues its number, and a task that waits for another is polled again
//! in the next round. It shows the cost of boxes, calls and queues alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::peer::Peer;

pub(crate) struct Floor;

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static TASKS: RefCell<Vec<Option<Task>>> = const { RefCell::new(Vec::new()) };
    static FREE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    static READY: RefCell<VecDeque<usize>> = const { RefCell::new(VecDeque::new()) };
}

impl Peer for Floor {
    const NAME: &'static str = "floor";

    type Runtime = ();

    fn make() -> Result<(), String> {
        Ok(())
    }

    fn block_on<F: Future>(_: &mut (), future: F) -> F::Output {
        let mut future = pin!(future);
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                TASKS.take();
                FREE.take();
                READY.take();
                return output;
            }
            let n_ready = READY.with_borrow(VecDeque::len);
            for _ in 0..n_ready {
                let Some(index) = READY.with_borrow_mut(VecDeque::pop_front) else { break };
                let Some(mut task) = TASKS.with_borrow_mut(|tasks| tasks[index].take()) else {
                    continue;
                };
                match task.as_mut().poll(cx) {
                    Poll::Pending => {
                        TASKS.with_borrow_mut(|tasks| tasks[index] = Some(task));
                        READY.with_borrow_mut(|ready| ready.push_back(index));
                    }
                    Poll::Ready(()) => FREE.with_borrow_mut(|free| free.push(index)),
                }
            }
        }
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let done = Rc::new(Cell::new(false));
        let set = Rc::clone(&done);
        let task: Task = Box::pin(async move {
            future.await;
            set.set(true);
        });
        let index = FREE.with_borrow_mut(Vec::pop);
        let index = TASKS.with_borrow_mut(|tasks| match index {
            Some(index) => {
                tasks[index] = Some(task);
                index
            }
            None => {
                tasks.push(Some(task));
                tasks.len() - 1
            }
        });
        READY.with_borrow_mut(|ready| ready.push_back(index));
        std::future::poll_fn(move |_| if done.get() { Poll::Ready(()) } else { Poll::Pending })
    }

    fn sleep(_: Duration) -> impl Future + 'static {
        std::future::ready(())
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        Floor::sleep(duration)
    }
}
