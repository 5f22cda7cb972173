#!/usr/bin/env python3
"""Checks that the licences and sources of all dependencies, tests included, are those that deny.toml allows.

usage: check_licences.py < METADATA    (what `cargo metadata` prints)

`cargo deny check` checks more, but has to be installed.
"""

import json
import re
import sys
import tomllib

# No published package depends on these: the comparison with peers, and the fuzz targets.
NOT_PART = {"polyloop-compare", "polyloop-fuzz"}


def allows(expression, allowed):
    """Reports whether the allowed licences satisfy a licence expression."""
    expression = expression.replace("/", " OR ")
    # "MIT OR Apache-2.0" needs one of the two, "MIT AND Unicode-3.0" both.
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
            wrong.append(f"{name}: the licence {package['license']} is not allowed by deny.toml")
        if package["source"] and not package["source"].startswith("registry+"):
            wrong.append(f"{name}: comes from {package['source']}")
    print(f"{len(seen)} packages, {len(wrong)} not allowed by deny.toml")
    sys.exit("\n".join(wrong) or None)


main()
