"""What a Python has installed: its version, the packages, and which modules are whose.

This file is run by other Pythons, too (3.8 and newer), so it stands by itself: standard library
only, and nothing of havre.
"""

# mypy: ignore-errors

import csv
import json
import re
import sys
from importlib import metadata


def look():
    """A mapping: ``python`` is two numbers; ``packages`` by name, the first on the path wins."""
    packages = {}
    for distribution in metadata.distributions():
        about = distribution.metadata  # read again each time that it is asked for
        name = re.sub(r"[-_.]+", "-", about["Name"] or "").lower()
        if name and name not in packages:
            packages[name] = {
                "version": about["Version"],
                "modules": sorted(_modules(distribution)),
                "requires": sorted(
                    _requires(about.get_all("Requires-Dist") or distribution.requires)
                ),
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
    for file in _files(distribution):
        first, _, rest = file.partition("/")
        if rest and not first.endswith((".dist-info", ".data")) and first != "..":
            names.add(first)
        elif first.endswith((".py", ".so")):
            names.add(first.partition(".")[0])
    return names - {"__pycache__", "", "."}


def _files(distribution):
    """Their paths. From the record itself, as there are tens of thousands of them:
    `distribution.files` makes an object of each, which takes ten times as long.
    """
    record = distribution.read_text("RECORD")
    if record:
        return [row[0] for row in csv.reader(record.splitlines()) if row]
    return [str(file) for file in distribution.files or ()]


def _requires(lines):
    """The names of what a package needs, without what only an extra of it needs."""
    names = set()
    for line in lines or ():
        name = re.match(r"[\w.-]+", line)
        if name and "extra ==" not in line:
            names.add(re.sub(r"[-_.]+", "-", name.group()).lower())
    return names


if __name__ == "__main__":
    print(json.dumps(look()))
