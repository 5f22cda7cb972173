#!/usr/bin/env python3
"""Runs the examples over a bare selector, and uses them as clients would.

usage: check_raw_examples.py DIRECTORY    (of echo_raw and five_io_models)

The last line is `N passed, N failed`; the exit status is 1 if a check failed.
"""

import contextlib
import os
import random
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

FOLDER = sys.argv[1]
BACKENDS = ["select", "poll", "epoll" if sys.platform == "linux" else "kqueue"]
HAS_PROC = os.path.isdir("/proc/self/fd")
# More than the kernel buffers between two sockets that do not read.
DATA = random.randbytes(32 * 1024 * 1024)

# Everything runs on one machine, so an operation that takes longer is stuck.
TIMEOUT_SECONDS = 20


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Server:
    """A running echo_raw, killed at the end of a `with` block."""

    def __init__(self, backend, max_fds=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (max_fds, max_fds))

        self.process = subprocess.Popen(
            [os.path.join(FOLDER, "echo_raw"), "--addr", "127.0.0.1:0", "--backend", backend],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit if max_fds else None,
        )
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on (127\.0\.0\.1):(\d+) \((\w+)\)\n", line)
        check(match and match[3] == backend, f"the first line is {line!r}")
        self.addr = (match[1], int(match[2]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.err = self.process.communicate(timeout=TIMEOUT_SECONDS)[1]

    def connect(self):
        return socket.create_connection(self.addr, timeout=TIMEOUT_SECONDS)

    def proc(self, name):
        with open(f"/proc/{self.process.pid}/{name}", encoding="ascii") as file:
            return file.read()

    def resident_kib(self):
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", self.proc("status"), re.M)[1])

    def cpu_seconds(self):
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def n_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def receive_exactly(stream, n_bytes):
    received = bytearray()
    while len(received) < n_bytes:
        chunk = stream.recv(n_bytes - len(received))
        check(chunk, f"the stream ended after {len(received)} of {n_bytes} bytes")
        received += chunk
    return bytes(received)


def receive_to_end(stream):
    received = bytearray()
    while chunk := stream.recv(1024 * 1024):
        received += chunk
    return bytes(received)


def round_trip(stream, message):
    stream.sendall(message)
    check(receive_exactly(stream, len(message)) == message, "other bytes came back")


def sends_back_every_byte_and_what_came_before_a_half_close(backend):
    with Server(backend) as server, server.connect() as stream:

        def send():
            stream.sendall(DATA)
            stream.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        check(receive_to_end(stream) == DATA, "other bytes came back")
        sender.join()


def survives_resets_and_leaks_no_descriptor(backend):
    with Server(backend) as server:
        with server.connect() as stream:
            round_trip(stream, b"before")
        time.sleep(0.1)
        before = server.n_fds() if HAS_PROC else 0
        for _ in range(200):
            with server.connect() as stream:
                stream.sendall(b"x" * 1000)
                reset = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        with server.connect() as stream:
            round_trip(stream, b"after")
        time.sleep(0.1)
        if HAS_PROC:
            check(server.n_fds() == before, f"{before} descriptors became {server.n_fds()}")
    check(server.err == "", server.err)


def waits_for_slow_readers_in_bounded_memory(backend):
    with Server(backend) as server, contextlib.ExitStack() as streams:
        before = server.resident_kib() if HAS_PROC else 0
        slow = [streams.enter_context(server.connect()) for _ in range(10)]
        n_sent = [0] * len(slow)
        view = memoryview(DATA)
        for index, stream in enumerate(slow):
            stream.setblocking(False)
            quiet = 0
            while quiet < 50 and n_sent[index] < len(DATA):
                try:
                    n_sent[index] += stream.send(view[n_sent[index] :])
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    time.sleep(0.002)
            check(n_sent[index] < len(DATA), "the server keeps reading from a client that does not read")
            stream.settimeout(TIMEOUT_SECONDS)
        if HAS_PROC:
            grown = server.resident_kib() - before
            check(grown < 2048, f"{grown} KiB for ten clients that do not read")
            cpu = server.cpu_seconds()
            time.sleep(1)
            cpu = server.cpu_seconds() - cpu
            check(cpu < 0.1, f"{cpu} s of CPU time in a second of waiting")
        with server.connect() as stream:
            round_trip(stream, b"another client")
        slow[0].shutdown(socket.SHUT_WR)
        check(receive_to_end(slow[0]) == DATA[: n_sent[0]], "some bytes are missing")


def survives_running_out_of_descriptors(backend):
    with Server(backend, max_fds=30) as server, contextlib.ExitStack() as streams:
        clients = [streams.enter_context(server.connect()) for _ in range(60)]
        for number, client in enumerate(clients):
            client.sendall(b"client %03d" % number)
        time.sleep(0.3)
        if HAS_PROC:
            cpu = server.cpu_seconds()
            time.sleep(1)
            cpu = server.cpu_seconds() - cpu
            check(cpu < 0.1, f"{cpu} s of CPU time in a second without descriptors")
        # In the order of arrival: each client that leaves frees a descriptor for the next.
        for number, client in enumerate(clients):
            check(receive_exactly(client, 10) == b"client %03d" % number, f"client {number}")
            client.close()
    n_complaints = server.err.count("cannot accept for now")
    check(1 <= n_complaints <= 10, f"stderr: {server.err}")


# This runs once.


def five_models_serve_the_same_task():
    program = os.path.join(FOLDER, "five_io_models")
    ended = subprocess.run(
        [program, "--requests", "200", "--pause-us", "100"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    row = r"^{} .*?(\d+) +([\d.]+) +[\d.]+ ms +[\d.]+ µs +[\d.]+ µs$"
    # Two calls per request if the read itself blocks, three with a separate wait.
    bounds = {
        "blocking": (2, 2.1),
        "non-blocking": (2, 100_000),
        "multiplexing": (2.9, 3.2),
        "signal-driven": (3, 8),
        "asynchronous": (1, 1.1),
    }
    for model, (low, high) in bounds.items():
        found = re.search(row.format(model), ended.stdout, re.M)
        if not found and re.search(rf"^{model} +not here: .+$", ended.stdout, re.M):
            check(model == "asynchronous", ended.stdout)
            continue
        check(found, ended.stdout)
        check(low <= float(found[2]) <= high, f"{model}: {found[0]}")


def every(test, *arguments):
    name = "::".join([*arguments, test.__name__])
    started = time.monotonic()
    try:
        test(*arguments)
    except Exception:
        print(f"test {name} ... FAILED\n{traceback.format_exc()}", flush=True)
        return False
    print(f"test {name} ... ok ({time.monotonic() - started:.1f} s)", flush=True)
    return True


def main():
    results = [
        every(test, backend)
        for backend in BACKENDS
        for test in [
            sends_back_every_byte_and_what_came_before_a_half_close,
            survives_resets_and_leaks_no_descriptor,
            waits_for_slow_readers_in_bounded_memory,
            survives_running_out_of_descriptors,
        ]
    ]
    results.append(every(five_models_serve_the_same_task))
    n_failed = results.count(False)
    print(f"{len(results) - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


main()
