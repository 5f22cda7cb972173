#!/usr/bin/env python3
"""Runs the examples, and uses them as people and clients would.

usage: check_examples.py DIRECTORY    (of the compiled examples)

The last line is `N passed, N failed`; the exit status is 1 if a check failed.
"""

import contextlib
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

FOLDER = sys.argv[1]
SERVER = os.path.join(FOLDER, "echo_server")
# The same over a bare selector, without signal handling.
RAW = os.path.join(FOLDER, "echo_raw")
CLIENT = os.path.join(FOLDER, "echo_client")
# Debian has two versions of nc; only this one has -N.
NC = shutil.which("nc.openbsd") or shutil.which("nc")
BACKENDS = ["select", "poll", "epoll" if sys.platform == "linux" else "kqueue"]
HAS_PROC = os.path.isdir("/proc/self/fd")
MIB = 1024 * 1024

# Everything runs on one machine, so an operation that takes longer is stuck.
TIMEOUT_SECONDS = 20


class Failure(Exception):
    """A check that does not hold."""


def check(condition, message):
    if not condition:
        raise Failure(message)


class Server:
    """A running echo server, killed at the end of a `with` block if it still runs."""

    def __init__(self, *arguments, program=SERVER, environment=None, max_fds=None):
        def prepare():
            # A process in the background inherits an ignored SIGINT.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if max_fds:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_fds, max_fds))

        self.process = subprocess.Popen(
            [program, "--addr", "127.0.0.1:0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=prepare,
        )
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_SECONDS)
        check(ready, "the server prints nothing")
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on (127\.0\.0\.1):(\d+) \((\w+)\)\n", line)
        check(match, f"unexpected first line: {line!r}; {self.process.poll()=}")
        self.addr = (match[1], int(match[2]))
        self.backend = match[3]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def connect(self):
        stream = socket.create_connection(self.addr, timeout=TIMEOUT_SECONDS)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def stop(self, signum=signal.SIGTERM):
        """Sends a signal; returns stdout, stderr and how long the server took to end."""
        started = time.monotonic()
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        took = time.monotonic() - started
        if self.process.args[0] == RAW:
            check(self.process.returncode == -signum, f"the signal did not end it: {err}")
            return out, err, took
        check(self.process.returncode == 0, f"exit status {self.process.returncode}: {err}")
        check(re.search(r"^served \d+ connections, \d+ messages, \d+ bytes$", out, re.M), out)
        return out, err, took

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            kib = re.search(r"^VmRSS:\s+(\d+) kB$", status.read(), re.M)[1]
        return int(kib) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def n_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def run(*command, environment=None, data=None):
    return subprocess.run(
        command,
        input=data if data is not None else "",
        capture_output=True,
        text=True,
        timeout=3 * TIMEOUT_SECONDS,
        env={**os.environ, **(environment or {})},
    )


def run_client(server, *arguments):
    host, port = server.addr
    return run(CLIENT, "--addr", f"{host}:{port}", *arguments)


def receive_exactly(stream, n):
    received = bytearray()
    while len(received) < n:
        chunk = stream.recv(min(n - len(received), 65536))
        check(chunk, f"closed after {len(received)} of {n} bytes")
        received += chunk
    return bytes(received)


def receive_to_end(stream):
    received = bytearray()
    while chunk := stream.recv(65536):
        received += chunk
    return bytes(received)


def round_trip(stream, message):
    stream.sendall(message)
    received = receive_exactly(stream, len(message))
    check(received == message, f"{message!r} came back as {received!r}")


def exchange(stream, data):
    """Sends all of `data`, half-closes, and returns everything that comes back."""

    def send():
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    received = receive_to_end(stream)
    sender.join(TIMEOUT_SECONDS)
    return received


def fill(stream, data):
    """Sends from `data` without reading until the server takes no more."""
    stream.setblocking(False)
    n_sent = 0
    while n_sent < len(data):
        if not select.select([], [stream], [], 0.3)[1]:
            break
        with contextlib.suppress(BlockingIOError):
            n_sent += stream.send(data[n_sent : n_sent + 65536])
    stream.settimeout(TIMEOUT_SECONDS)
    return n_sent


# Each of these runs once per backend.


def serves_nc_a_script_and_the_load_generator_at_once(backend, program=SERVER):
    check(NC, "nc is not installed (on Debian: apt-get install netcat-openbsd)")
    with Server("--backend", backend, program=program) as server:
        check(server.backend == backend, f"runs on {server.backend}")
        host, port = server.addr
        load = subprocess.Popen(
            [CLIENT, "--addr", f"{host}:{port}", "--connections", "50", "--seconds", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        text = "".join(f"line {n}\n" for n in range(10_000))
        nc = run(NC, "-N", host, str(port), data=text)
        check(nc.stdout == text, "nc did not get its lines back")
        data = random.randbytes(MIB)
        with server.connect() as stream:
            check(exchange(stream, data) == data, "1 MiB came back changed")
        out, _ = load.communicate(timeout=TIMEOUT_SECONDS)
        check(load.returncode == 0, out)
        check("every byte verified" in out and "p99.9" in out, out)
        server.stop(signal.SIGINT)


def sends_back_what_came_before_a_half_close(backend, program=SERVER):
    data = random.randbytes(8 * MIB)
    with Server("--backend", backend, program=program) as server, server.connect() as stream:
        check(exchange(stream, data) == data, "8 MiB came back changed")
        server.stop()


def survives_resets(backend):
    with Server("--backend", backend, "--stats") as server:
        linger = struct.pack("ii", 1, 0)
        for _ in range(100):
            stream = server.connect()
            round_trip(stream, b"hello")
            stream.sendall(bytes(1000))
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            stream.close()
        with server.connect() as stream:
            round_trip(stream, b"still there?")
        out, _, took = server.stop()
        check(took < 1, f"the server waited for a reset connection: {took} s")
        check(re.search(r"^connections +101$", out, re.M), out)


def waits_for_slow_readers_in_bounded_memory(backend, program=SERVER):
    # More than the buffers of all sockets involved can hold.
    data = random.randbytes(128 * MIB)
    with Server("--backend", backend, program=program) as server, contextlib.ExitStack() as streams:
        slow = [streams.enter_context(server.connect()) for _ in range(10)]
        for stream in slow:
            round_trip(stream, b"hello")
        before = server.resident_bytes() if HAS_PROC else 0
        n_sent = [fill(stream, data) for stream in slow]
        check(max(n_sent) < len(data), f"a client that does not read could send {n_sent} bytes")
        if HAS_PROC:
            grown = server.resident_bytes() - before
            check(grown < 2 * MIB, f"10 slow readers cost {grown} bytes")
            cpu = server.cpu_seconds()
            time.sleep(1)
            cpu = server.cpu_seconds() - cpu
            check(cpu < 0.1, f"{cpu} s of CPU time in a second of waiting")
        with server.connect() as stream:
            round_trip(stream, b"another client")
        slow[0].shutdown(socket.SHUT_WR)
        check(receive_to_end(slow[0]) == data[: n_sent[0]], "some bytes are missing")
        streams.close()
        server.stop()


def survives_running_out_of_descriptors(backend):
    with Server("--backend", backend, max_fds=40) as server, contextlib.ExitStack() as streams:
        clients = [streams.enter_context(server.connect()) for _ in range(80)]
        for number, client in enumerate(clients):
            client.sendall(b"client %03d" % number)
        time.sleep(0.5)
        answered = select.select(clients, [], [], 0)[0]
        check(20 < len(answered) < 40, f"{len(answered)} of 80 served with 40 descriptors")
        if HAS_PROC:
            cpu = server.cpu_seconds()
            time.sleep(2)
            cpu = server.cpu_seconds() - cpu
            check(cpu < 0.1, f"{cpu} s of CPU time in two seconds without descriptors")
        # In the order of arrival: each client that leaves frees a descriptor for the next.
        for number, client in enumerate(clients):
            check(receive_exactly(client, 10) == b"client %03d" % number, f"client {number}")
            client.close()
        with server.connect() as stream:
            round_trip(stream, b"recovered")
        _, err, took = server.stop()
        check(1 <= err.count("cannot accept for now") <= 10, f"stderr: {err}")
        check(took < 1, f"{took} s to stop")


def leaks_no_descriptor(backend, program=SERVER):
    with Server("--backend", backend, program=program) as server:
        with server.connect() as stream:
            round_trip(stream, b"warm-up")
        time.sleep(0.1)
        before = server.n_fds() if HAS_PROC else 0
        for _ in range(1000):
            with server.connect() as stream:
                round_trip(stream, b"hello")
        time.sleep(0.1)
        if HAS_PROC:
            check(server.n_fds() == before, f"{before} descriptors became {server.n_fds()}")
        server.stop()


def holds_an_idle_connection_in_less_than_a_kilobyte(backend):
    with Server("--backend", backend) as server, contextlib.ExitStack() as streams:

        def connect():
            stream = streams.enter_context(server.connect())
            round_trip(stream, b"hello")

        for _ in range(10):
            connect()
        before = server.resident_bytes() if HAS_PROC else 0
        # Below select's limit.
        n = 900
        for _ in range(n):
            connect()
        if HAS_PROC:
            each = (server.resident_bytes() - before) / n
            print(f"  {each:.0f} bytes for each idle connection on {backend}")
            check(each < 1024, f"{each} bytes for each idle connection")
        streams.close()
        server.stop()


def lets_open_connections_finish(backend):
    with Server("--backend", backend) as server:
        stream = server.connect()
        round_trip(stream, b"before")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        round_trip(stream, b"after the signal")
        try:
            server.connect().close()
            raise Failure("a connection was accepted after the signal")
        except ConnectionError:
            pass
        stream.close()
        started = time.monotonic()
        out, err = server.process.communicate(timeout=TIMEOUT_SECONDS)
        took = time.monotonic() - started
        check(server.process.returncode == 0, err)
        check(took < 1, f"it ran for another {took} s after the last connection")
        check("served 1 connections, 2 messages, 22 bytes" in out, out)


def cuts_off_idle_connections_after_two_seconds(backend):
    with Server("--backend", backend) as server, server.connect() as stream:
        round_trip(stream, b"hello")
        out, _, took = server.stop(signal.SIGINT)
        check(1.9 < took < 3, f"it took {took} s")
        check("cut off 1 connections" in out, out)


def a_second_interrupt_ends_the_server_at_once(backend):
    with Server("--backend", backend) as server, server.connect() as stream:
        round_trip(stream, b"hello")
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        started = time.monotonic()
        server.process.communicate(timeout=TIMEOUT_SECONDS)
        took = time.monotonic() - started
        check(took < 1, f"it ran for another {took} s")
        check(server.process.returncode == -signal.SIGINT, f"{server.process.returncode}")


def needs_three_system_calls_for_a_message(backend):
    with Server("--backend", backend, "--stats") as server:
        with server.connect() as stream:
            for number in range(2000):
                round_trip(stream, b"message %05d" % number)
        out, _, _ = server.stop()
        calls = float(re.search(r"^system calls per message +([\d.]+)$", out, re.M)[1])
        control = int(re.search(r"^control calls +(\d+)$", out, re.M)[1])
        # A wait, a read and a write: with one client, no wait is shared.
        check(2.9 < calls < 3.1, out)
        check(control < 20, out)
        for line in ["connections", "messages", "bytes", "selector waits"]:
            check(re.search(rf"^{line} +\d+$", out, re.M), f"no {line} in {out}")


def is_loaded_by_a_client_on_the_same_backend(backend):
    cases = [
        ["--connections", "200", "--size", "64", "--in-flight", "4"],
        ["--connections", "4", "--size", "1000000", "--in-flight", "8"],
        ["--connections", "7", "--size", "1", "--in-flight", "100"],
    ]
    with Server("--backend", backend) as server:
        for case in cases:
            client = run_client(server, "--backend", backend, "--seconds", "1", *case)
            check(client.returncode == 0, f"{case}: {client.stdout}{client.stderr}")
            check(f"({backend}), every byte verified" in client.stdout, client.stdout)
            rate = re.search(r"^(\d+) messages/s", client.stdout, re.M)
            check(rate and int(rate[1]) > 0, client.stdout)
            check(client.stderr == "", f"progress without a terminal: {client.stderr}")
        _, _, took = server.stop()
        check(took < 1, f"the clients left connections open: {took} s")


# These run once.


def an_invalid_command_prints_the_usage():
    missing = "kqueue" if sys.platform == "linux" else "epoll"
    for program in [SERVER, CLIENT]:
        for mistake in [["--no-such-flag"], ["--backend", "pole"], ["--backend", missing]]:
            ended = run(program, *mistake)
            check(ended.returncode == 2, f"{mistake}: exit status {ended.returncode}")
            usage = f"Usage: {os.path.basename(program)} [OPTIONS]"
            check(usage in ended.stderr and ended.stdout == "", f"{mistake}: {ended}")
    unknown = run(SERVER, "--backend", "pole")
    check('unknown backend "pole" (one of: select, poll, epoll, kqueue)' in unknown.stderr, unknown)


def the_environment_chooses_a_backend():
    for backend in BACKENDS:
        with Server(environment={"POLYLOOP_BACKEND": backend}) as server:
            check(server.backend == backend, f"{backend}: runs on {server.backend}")
            server.stop()
    with Server("--backend", "poll", environment={"POLYLOOP_BACKEND": "select"}) as server:
        check(server.backend == "poll", "the flag does not take precedence")
        server.stop()
    with Server(environment={"POLYLOOP_BACKEND": ""}) as server:
        check(server.backend == BACKENDS[-1], f"the default is {server.backend}")
        server.stop()


def an_unknown_backend_in_the_environment_is_an_error():
    for program in [SERVER, CLIENT]:
        ended = run(program, environment={"POLYLOOP_BACKEND": "pole"})
        check(ended.returncode == 2, f"exit status {ended.returncode}")
        check('POLYLOOP_BACKEND: unknown backend "pole"' in ended.stderr, ended.stderr)


def an_address_in_use_is_named():
    with Server() as server:
        addr = "%s:%d" % server.addr
        ended = run(SERVER, "--addr", addr)
        check(ended.returncode == 1, f"exit status {ended.returncode}")
        check(ended.stderr.count("\n") == 1 and addr in ended.stderr, ended.stderr)
        check(ended.stdout == "", ended.stdout)
        server.stop()


def the_port_of_a_stopped_server_is_free_at_once():
    with Server() as server:
        addr = server.addr
        stream = server.connect()
        round_trip(stream, b"hello")
        server.stop()
    with socket.create_server(addr):
        pass
    ended = subprocess.Popen([SERVER, "--addr", "%s:%d" % addr], stdout=subprocess.PIPE, text=True)
    check("listening on" in ended.stdout.readline(), "the port is not free")
    ended.send_signal(signal.SIGTERM)
    ended.communicate(timeout=TIMEOUT_SECONDS)
    stream.close()


def a_refused_client_names_the_address():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        addr = "%s:%d" % unused.getsockname()
    ended = run(CLIENT, "--addr", addr)
    check(ended.returncode == 1, f"exit status {ended.returncode}")
    check(ended.stderr.count("\n") == 1, ended.stderr)
    check(addr in ended.stderr and "refused" in ended.stderr, ended.stderr)


def with_broken_server(answer, *arguments):
    """Runs the client against a server that handles its one connection with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            stream, _ = listener.accept()
            with stream, contextlib.suppress(ConnectionError):
                answer(stream)

        threading.Thread(target=serve, daemon=True).start()
        addr = "%s:%d" % listener.getsockname()
        return run(CLIENT, "--addr", addr, "--connections", "1", "--seconds", "1", *arguments)


def a_client_detects_a_wrong_byte():
    def flip_one(stream):
        n_seen = 0
        while chunk := bytearray(stream.recv(65536)):
            if n_seen <= 10_000 < n_seen + len(chunk):
                chunk[10_000 - n_seen] ^= 1
            n_seen += len(chunk)
            stream.sendall(chunk)

    ended = with_broken_server(flip_one)
    check(ended.returncode == 1, f"exit status {ended.returncode}: {ended.stdout}")
    check("connection 1: byte 10000 came back as" in ended.stderr, ended.stderr)


def a_client_detects_missing_and_extra_bytes():
    def swallow(stream):
        stream.sendall(stream.recv(64)[:10])

    ended = with_broken_server(swallow)
    check(ended.returncode == 1 and "closed by the server after 10 of 64" in ended.stderr, ended)

    def invent(stream):
        stream.sendall(stream.recv(64) + b"!")
        stream.recv(64)

    ended = with_broken_server(invent)
    check(ended.returncode == 1 and "came back" in ended.stderr, ended)


def all_other_examples_run_to_completion():
    for name in ["five_io_models", "inside_poll"]:
        ended = run(os.path.join(FOLDER, name))
        check(ended.returncode == 0, f"{name}: exit status {ended.returncode}: {ended.stderr}")


def an_example_whose_output_is_not_read_does_not_panic():
    for name in ["echo_server", "echo_client", "echo_raw", "five_io_models", "inside_poll"]:
        for arguments in [["--help"], []] if name in ["five_io_models", "inside_poll"] else [["--help"]]:
            reader, writer = os.pipe()
            os.close(reader)
            try:
                ended = subprocess.run(
                    [os.path.join(FOLDER, name), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=writer,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=TIMEOUT_SECONDS,
                )
            finally:
                os.close(writer)
            check(ended.returncode == 0 and ended.stderr == "", f"{name} {arguments}: {ended}")


def invalid_options_are_refused():
    mistakes = {
        "echo_client": ["--seconds 0", "--seconds nan", "--seconds 1e15", "--connections 0", "--size 0"],
        "five_io_models": ["--requests 0", "--requests -1", "--pause-us x"],
    }
    for name, options in mistakes.items():
        for option in options:
            ended = run(os.path.join(FOLDER, name), *option.split())
            check(ended.returncode == 2 and "Usage: " in ended.stderr, f"{name} {option}: {ended}")


def every(test, *arguments):
    name = "::".join([*map(os.path.basename, arguments), test.__name__])
    started = time.monotonic()
    try:
        test(*arguments)
    except (Failure, AssertionError) as failure:
        print(f"test {name} ... FAILED\n  {failure}", flush=True)
    except Exception:
        print(f"test {name} ... FAILED\n{traceback.format_exc()}", flush=True)
    else:
        print(f"test {name} ... ok ({time.monotonic() - started:.1f} s)", flush=True)
        return True
    return False


def main():
    results = [
        every(test, backend)
        for backend in BACKENDS
        for test in [
            serves_nc_a_script_and_the_load_generator_at_once,
            sends_back_what_came_before_a_half_close,
            survives_resets,
            waits_for_slow_readers_in_bounded_memory,
            survives_running_out_of_descriptors,
            leaks_no_descriptor,
            holds_an_idle_connection_in_less_than_a_kilobyte,
            lets_open_connections_finish,
            cuts_off_idle_connections_after_two_seconds,
            a_second_interrupt_ends_the_server_at_once,
            needs_three_system_calls_for_a_message,
            is_loaded_by_a_client_on_the_same_backend,
        ]
    ]
    results += [
        every(test, backend, RAW)
        for backend in BACKENDS
        for test in [
            serves_nc_a_script_and_the_load_generator_at_once,
            sends_back_what_came_before_a_half_close,
            waits_for_slow_readers_in_bounded_memory,
            leaks_no_descriptor,
        ]
    ]
    results += [
        every(test)
        for test in [
            an_invalid_command_prints_the_usage,
            the_environment_chooses_a_backend,
            an_unknown_backend_in_the_environment_is_an_error,
            an_address_in_use_is_named,
            the_port_of_a_stopped_server_is_free_at_once,
            a_refused_client_names_the_address,
            a_client_detects_a_wrong_byte,
            a_client_detects_missing_and_extra_bytes,
            all_other_examples_run_to_completion,
            an_example_whose_output_is_not_read_does_not_panic,
            invalid_options_are_refused,
        ]
    ]
    n_failed = results.count(False)
    print(f"{len(results) - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


main()
