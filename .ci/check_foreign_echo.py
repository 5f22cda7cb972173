#!/usr/bin/env python3
"""Runs the echo examples of another processor against those of this one.

Usage: check_foreign_echo.py FOREIGN_EXAMPLES EXAMPLES EMULATOR...

EMULATOR is the command that runs the foreign programs. Each backend's foreign server is used by both clients,
which verify every byte that comes back, and must stop cleanly on SIGTERM.
"""

import signal
import subprocess
import sys

# Longer than any step takes under an emulator on a busy machine.
TIMEOUT_SECONDS = 120

BACKENDS = ["select", "poll", "epoll"]


def client(command, address):
    """Runs a client for a second; returns what went wrong, or None."""
    load = ["--connections", "20", "--size", "5000", "--in-flight", "3", "--seconds", "1"]
    command = [*command, "--addr", address, *load]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode != 0 or "every byte verified" not in done.stdout:
        return f"status {done.returncode}, {done.stdout!r}, {done.stderr!r}"
    if "(0 messages)" in done.stdout:
        return "no message came back"
    return None


def check(server, client_of, backend):
    """Starts a server on `backend`, runs each client against it, and returns what went wrong, by step."""
    command = [*server, "--addr", "127.0.0.1:0", "--backend", backend]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        # "listening on 127.0.0.1:40001 (epoll)"
        address = process.stdout.readline().split()[2]
        wrong = {name: client(command, address) for name, command in client_of.items()}
        process.send_signal(signal.SIGTERM)
        status = process.wait(TIMEOUT_SECONDS)
        wrong["SIGTERM"] = f"status {status}" if status != 0 else None
        return wrong
    finally:
        process.kill()


def main():
    foreign, native, *emulator = sys.argv[1:]
    server = [*emulator, f"{foreign}/echo_server"]
    client_of = {
        "client of the other processor": [*emulator, f"{foreign}/echo_client"],
        "client of this processor": [f"{native}/echo_client"],
    }
    n_passed = n_failed = 0
    for backend in BACKENDS:
        for step, error in check(server, client_of, backend).items():
            print(f"{'FAILED' if error else 'ok'}: {backend}: {step}{': ' + error if error else ''}")
            n_failed += error is not None
            n_passed += error is None
    print(f"{n_passed} passed, {n_failed} failed")
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
