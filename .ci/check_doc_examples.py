#!/usr/bin/env python3
"""Checks that the documentation's examples use no crate but polyloop and the standard library.

`cargo test` compiles and runs each example with the dependencies of its crate. This check makes sure that it
also compiles where a user copies it, in a package that depends on polyloop alone.
"""

import pathlib
import re
import sys

CRATES = {"std", "core", "alloc", "polyloop", "crate", "self", "super"}


def examples(path):
    """Yields the number and the text of each line of example code in a file."""
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
    for crate in ("reactor", "executor", "net", "src"):
        folder = pathlib.Path(crate if crate == "src" else crate + "/src")
        for path in sorted(folder.rglob("*.rs")):
            for number, text in examples(path):
                count += 1
                imported = re.match(r"(?:pub )?use (\w+)", text)
                named = re.findall(r"\bpolyloop_(?:reactor|executor|net)\b", text)
                foreign = imported and imported[1] not in CRATES and imported[1].islower()
                if (named and "selector_conformance!" not in text) or foreign:
                    wrong.append(f"{path}:{number}: {text}")
    print(f"{count} lines of examples")
    sys.exit("\n".join(["these lines name a crate that a user does not depend on:", *wrong]) if wrong else None)


main()
