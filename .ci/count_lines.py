#!/usr/bin/env python3
"""Counts the lines of code of the core path, and compares the sum with README.md.

The core path runs from a descriptor that becomes ready to the poll of the task that awaits it: the reactor on
epoll, the event loop with its tasks and timers, and `AsyncFd`. Comments, blank lines and tests are not counted.
"""

import re
import sys

CORE = """
    reactor/src/backend.rs reactor/src/event.rs reactor/src/interest.rs reactor/src/notifier.rs
    reactor/src/selector.rs reactor/src/token.rs reactor/src/reactor/collected.rs
    reactor/src/reactor/levels.rs reactor/src/reactor/mod.rs reactor/src/reactor/source.rs
    reactor/src/reactor/waiters.rs reactor/src/reactor/waiting.rs reactor/src/reactor/watched.rs
    reactor/src/sys/cvt.rs reactor/src/sys/fork.rs reactor/src/sys/mod.rs reactor/src/sys/stat.rs
    reactor/src/sys/wake.rs reactor/src/sys/selectors/epoll/mod.rs reactor/src/sys/selectors/epoll/set.rs
    reactor/src/sys/selectors/epoll/stale.rs reactor/src/sys/selectors/mechanism.rs
    reactor/src/sys/selectors/mod.rs reactor/src/sys/selectors/system_selector.rs
    reactor/src/sys/selectors/table.rs reactor/src/sys/selectors/wait.rs reactor/src/sys/selectors/wake_up.rs
    executor/src/catch.rs executor/src/driver.rs executor/src/running.rs
    executor/src/event_loop/budget.rs executor/src/event_loop/commands.rs
    executor/src/event_loop/local_loops.rs executor/src/event_loop/mailbox.rs
    executor/src/event_loop/mod.rs executor/src/event_loop/tasks.rs
    executor/src/event_loop/timers.rs executor/src/event_loop/turn.rs
    executor/src/event_loop/wait.rs executor/src/join/join_error.rs executor/src/join/join_handle.rs
    executor/src/join/packet.rs executor/src/raw/current.rs executor/src/raw/forward.rs
    executor/src/raw/project.rs executor/src/raw/waker.rs executor/src/runtime/handle.rs
    executor/src/runtime/mod.rs executor/src/tasks/extras.rs executor/src/tasks/main_future.rs
    executor/src/tasks/mod.rs executor/src/tasks/numbers.rs executor/src/tasks/outputs.rs
    executor/src/tasks/ready_queue.rs executor/src/tasks/slot.rs executor/src/tasks/stage.rs
    executor/src/tasks/table.rs executor/src/tasks/wakers.rs
    executor/src/time/clock.rs executor/src/time/segments.rs executor/src/time/sleep.rs
    executor/src/time/timeout.rs executor/src/time/timer_heap.rs executor/src/time/timer_slots.rs
    net/src/async_fd/mod.rs net/src/async_fd/registrations.rs net/src/async_fd/waiter.rs
""".split()


def lines_of_code(path):
    """Counts the lines of `path` except comments, blank lines and items under `cfg(test)`."""
    count = 0
    # The indentation of the test-only item that is being skipped.
    skipping = None
    for line in open(path, encoding="utf-8"):
        text = line.strip()
        if not text or text.startswith("//"):
            continue
        indent = len(line) - len(line.lstrip())
        if skipping is not None:
            if indent <= skipping and (text.endswith((";", "}", "},")) or text == ")"):
                skipping = None
            continue
        if re.match(r"#\[cfg\((all\()?test\b", text):
            skipping = indent
            continue
        count += 1
    return count


def main():
    counted = {path: lines_of_code(path) for path in CORE}
    total = sum(counted.values())
    for path, count in counted.items():
        print(f"{count:6} {path}")
    print(f"{total:6} in all")
    said = re.search(r"core path is ([\d,]+) lines", open("README.md", encoding="utf-8").read())
    if not said:
        sys.exit("README.md lacks the sentence `the core path is N lines`")
    said = int(said[1].replace(",", ""))
    if abs(said - total) > total // 20:
        sys.exit(f"README.md says {said} lines; the count is {total}")


main()
