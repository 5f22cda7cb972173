#!/usr/bin/env python3
"""Runs the example hosts of docs/embedding.md that are not written in Rust.

usage: check_hosts.py DIRECTORY    (of libpolyloop_inside_c)

The last line is `N passed, N failed`; the exit status is 1 if a check failed.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback

FOLDER = os.path.abspath(sys.argv[1])
EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "inside_c")
LIBRARY = "libpolyloop_inside_c." + ("dylib" if sys.platform == "darwin" else "so")

# A host that takes longer is stuck.
TIMEOUT_SECONDS = 60


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def run(*command):
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS)
    check(ended.returncode == 0, f"{command[0]} ended with {ended.returncode}: {ended.stdout}")
    return ended.stdout


def check_counts(output):
    """The clock ticks every 10 ms for at least 190 ms, with about one turn per tick."""
    found = re.search(r"^ticks: (\d+) turns: (\d+)$", output, re.MULTILINE)
    check(found, output)
    ticks, turns = map(int, found.groups())
    check(ticks >= 15, f"the clock ticked only {ticks} times")
    check(turns <= ticks * 3 + 50, f"{turns} turns for {ticks} ticks: the host does not sleep")


def polyloop_runs_inside_asyncio():
    output = run(sys.executable, os.path.join(EXAMPLE, "host.py"), os.path.join(FOLDER, LIBRARY))
    for word in ["one", "two", "three"]:
        check(f"the plugin echoed {word}\n" in output, output)
    check_counts(output)


def polyloop_runs_inside_glib():
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "glib-2.0"))
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "host_glib")
        source = os.path.join(EXAMPLE, "host_glib.c")
        linking = [f"-L{FOLDER}", f"-Wl,-rpath,{FOLDER}", "-lpolyloop_inside_c"]
        run("cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", source, "-o", program, *flags, *linking)
        output = run(program)
    found = re.search(r"^echoes: 3 beats: (\d+)$", output, re.MULTILINE)
    check(found, output)
    check(int(found[1]) >= 10, "the host's timer starved")
    check_counts(output)


def main():
    passed = failed = 0
    for case in [polyloop_runs_inside_asyncio, polyloop_runs_inside_glib]:
        name = case.__name__.replace("_", " ")
        try:
            case()
        except Exception:
            failed += 1
            print(f"FAILED: {name}")
            traceback.print_exc()
        else:
            passed += 1
            print(f"ok: {name}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
