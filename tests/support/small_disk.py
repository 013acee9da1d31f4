"""A file system that is quickly full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[None]:
    """Have one in the place of an empty folder; skips the test where only root may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount the small disk that this fills")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until nothing more fits, not a byte."""
    with file.open("wb", buffering=0) as sink:
        for size in (1_000_000, 4096, 1):
            while True:
                try:
                    sink.write(b"\0" * size)
                except OSError:
                    break
