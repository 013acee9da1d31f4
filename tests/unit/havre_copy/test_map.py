"""The map of the package's files, in its docstring."""

import re
from pathlib import Path

import havre_copy


def test_every_file_is_on_the_map_once() -> None:
    names = re.findall(r"^    (?:[├└]── )?([a-z_]+) +\w", havre_copy.__doc__ or "", re.MULTILINE)
    files = {path.stem for path in Path(havre_copy.__file__).parent.glob("*.py")} - {"__init__"}
    assert len(names) == len(set(names))
    assert set(names) == files
