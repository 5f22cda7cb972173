#!/usr/bin/env python3
"""Checks licences and sources of all that the library and its tests are built with, as deny.toml has them.

usage: check_licences.py < METADATA    (what `cargo metadata` prints)

`cargo deny check` looks at more; it has to be installed, and this has not.
"""

import json
import re
import sys
import tomllib

# Nothing that is published is built with what these bring: peers to be measured against, and a fuzzer.
NOT_PART = {"polyloop-compare", "polyloop-fuzz"}


def allows(expression, allowed):
    """Says whether a licence expression can be met with the licences that are allowed."""
    expression = expression.replace("/", " OR ")
    # "MIT OR Apache-2.0" is met by one of both, "MIT AND Unicode-3.0" by both.
    python = re.sub(r"[\w.+-]+(?: WITH [\w.-]+)?", lambda found: {
        "OR": "or", "AND": "and"}.get(found[0], str(found[0] in allowed)), expression)
    return eval(python, {"__builtins__": {}})


def main():
    metadata = json.load(sys.stdin)
    with open("deny.toml", "rb") as file:
        allowed = set(tomllib.load(file)["licenses"]["allow"])
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [
        member for member in metadata["workspace_members"] if packages[member]["name"] not in NOT_PART
    ]
    seen = set()
    wrong = []
    while waiting:
        package = packages[waiting.pop()]
        if package["id"] in seen:
            continue
        seen.add(package["id"])
        waiting.extend(dependency["pkg"] for dependency in nodes[package["id"]]["deps"])
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not allows(package["license"], allowed):
            wrong.append(f"{name}: the licence {package['license']} is not in deny.toml")
        if package["source"] and not package["source"].startswith("registry+"):
            wrong.append(f"{name}: comes from {package['source']}")
    print(f"{len(seen)} packages, {len(wrong)} of them not as deny.toml has it")
    sys.exit("\n".join(wrong) or None)


main()
