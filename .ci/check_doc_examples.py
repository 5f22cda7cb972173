#!/usr/bin/env python3
"""Checks that the examples in the documentation name no crate but polyloop and the standard library.

They are compiled and run by `cargo test`, each room's with that room's dependencies. With this check
they are also what somebody can copy who depends on polyloop alone.
"""

import pathlib
import re
import sys

CRATES = {"std", "core", "alloc", "polyloop", "crate", "self", "super"}


def examples(path):
    """Yields the number and the text of each line of code in the documentation of a file."""
    inside = code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        found = re.match(r"\s*//[/!] ?(.*)", line)
        if not found:
            inside = False
        elif found[1].startswith("```"):
            inside = not inside
            code = inside and not re.match(r"```(text|sh|toml|console)", found[1])
        elif inside and code:
            yield number, found[1].removeprefix("# ")


def main():
    wrong = []
    count = 0
    for room in ("reactor", "executor", "net", "src"):
        folder = pathlib.Path(room if room == "src" else room + "/src")
        for path in sorted(folder.rglob("*.rs")):
            for number, text in examples(path):
                count += 1
                imported = re.match(r"(?:pub )?use (\w+)", text)
                named = re.findall(r"\bpolyloop_(?:reactor|executor|net)\b", text)
                foreign = imported and imported[1] not in CRATES and imported[1].islower()
                if (named and "selector_conformance!" not in text) or foreign:
                    wrong.append(f"{path}:{number}: {text}")
    print(f"{count} lines of examples")
    sys.exit("\n".join(["these name a crate that a user does not have:", *wrong]) if wrong else None)


main()
