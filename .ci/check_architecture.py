#!/usr/bin/env python3
"""Checks that every file, folder and method that ARCHITECTURE.md names exists."""

import re
import subprocess
import sys

text = open("ARCHITECTURE.md", encoding="utf-8").read()
files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
source = "\n".join(open(file, encoding="utf-8").read() for file in files if re.match(r"\w+/src/.*\.rs$", file))

missing = []
for name in sorted(set(re.findall(r"`([^`\s]+)`", text))):
    if re.search(r"\.(rs|py|md|toml)$", name):
        found = any(file == name or file.endswith("/" + name) for file in files)
    elif name.endswith("/"):
        found = any(file.startswith(name) or "/" + name in file for file in files)
    elif method := re.fullmatch(r"[A-Z]\w+::([a-z_]\w*)", name):
        found = re.search(rf"\bfn {method[1]}\b", source)
    else:
        continue
    if not found:
        missing.append(name)

for name in missing:
    print(f"ARCHITECTURE.md names `{name}`, which does not exist")
sys.exit(bool(missing))
