"""What a Python has installed: its version, the packages, and which modules are whose.

This file is run by other Pythons, too (3.8 and newer), so it stands by itself: standard library
only, and nothing of havre.
"""

# mypy: ignore-errors

import json
import re
import sys
from importlib import metadata


def look():
    """A mapping: ``python`` is two numbers; ``packages`` by name, the first on the path wins."""
    packages = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name and name not in packages:
            packages[name] = {
                "version": distribution.version,
                "modules": sorted(_modules(distribution)),
                "requires": sorted(_requires(distribution)),
                "from_index": distribution.read_text("direct_url.json") is None,
            }
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "prefix": sys.prefix,
        "packages": packages,
    }


def _modules(distribution):
    """The top-level names that a package brings."""
    stated = (distribution.read_text("top_level.txt") or "").split()
    names = {name for name in stated if "/" not in name}
    for file in distribution.files or ():
        first = file.parts[0]
        if len(file.parts) > 1 and not first.endswith((".dist-info", ".data")) and first != "..":
            names.add(first)
        elif first.endswith((".py", ".so")):
            names.add(first.partition(".")[0])
    return names - {"__pycache__"}


def _requires(distribution):
    """The names of what it needs, without what only an extra of it needs."""
    names = set()
    for line in distribution.requires or ():
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line:
            names.add(re.sub(r"[-_.]+", "-", name.group()).lower())
    return names


if __name__ == "__main__":
    print(json.dumps(look()))
