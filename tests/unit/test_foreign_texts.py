"""What foreign files and programs say, read in time that grows with its length alone."""

import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from havre.catalog import archive_names, manifest
from havre.environments import resolve, unusable
from havre.environments.confinement import Enclosure

LENGTH = 64 * 1024
LIMIT_S = 1.0


def _asked(said: str) -> str:
    enclosure: Any = SimpleNamespace(run_python=lambda *_: (0, said))
    return unusable.when_asked(cast("Enclosure", enclosure), cast("Any", "python"))


@pytest.mark.parametrize(
    "read",
    [
        lambda: manifest._VERSION.fullmatch("3.8" + " " * LENGTH + "x"),
        lambda: resolve._PLAIN.fullmatch("a" + " " * LENGTH + "@"),
        lambda: _asked("a" * LENGTH),
        lambda: _asked("a 1." * (LENGTH // 4)),
        lambda: _asked("version `" * (LENGTH // 9)),
        lambda: _asked("error while loading shared libraries: " * (LENGTH // 38)),
        lambda: archive_names._unicode_path(struct.pack("<HH", 1, 0) * (LENGTH // 4), b"x"),
    ],
    ids=["version", "requirement", "word", "numbers", "symbols", "loader", "extra field"],
)
def test_reading_a_foreign_text_costs_little(read: Callable[[], object]) -> None:
    began = time.process_time()
    read()
    assert time.process_time() - began < LIMIT_S


def test_a_signal_without_a_name_is_told() -> None:
    enclosure: Any = SimpleNamespace(run_python=lambda *_: (-40, ""))
    told = unusable.when_asked(cast("Enclosure", enclosure), cast("Any", "python"))
    assert "signal 40" in told
