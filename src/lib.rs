//! An async runtime over select, poll, epoll and kqueue.
