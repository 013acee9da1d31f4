"""How quickly a large artifact goes up and down, and what it costs the control plane in memory.

    python -m bench.big_artifact [--megabytes 2000] [--folder /tmp]

Beside it, the same bytes copied on the same disk, with an fsync at the end. The control plane's
memory is watched all the time.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.own_server import own_server
from bench.processes import pss_bytes
from bench.start_time import SMALLEST

CHUNK = 2**20
WATCH_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--folder", default="/tmp", help="on the disk to measure [%(default)s]")
    options = parser.parse_args()
    scratch = tempfile.TemporaryDirectory(dir=options.folder, prefix="hvbig")
    with scratch as folder, own_server() as server, server.up():
        archive, copied = Path(folder) / "artifact.zip", Path(folder) / "copy"
        write(archive, options.megabytes)
        size = archive.stat().st_size
        disk = seconds(lambda: copy(archive, copied))
        told("copied on this disk", size, disk, disk)
        copied.unlink()
        model_id = server.client.create_model("big")["id"]
        control_plane = server.control_plane()
        with watched(control_plane) as memory:
            up = seconds(lambda: server.client.upload_artifact(model_id, archive))
        told("uploaded", size, up, disk, memory)
        url = f"{server.client.url}/20190101/models/{model_id}/artifact/content"
        with watched(control_plane) as memory:
            down = seconds(lambda: download(url, copied))
        told("downloaded", size, down, disk, memory)
        if not same(archive, copied):
            sys.exit("what came back is not what was sent")


def write(archive: Path, megabytes: int) -> None:
    """A valid artifact with a file of random bytes, stored and not compressed."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("score.py", SMALLEST)
        with file.open("weights.bin", "w", force_zip64=True) as weights:
            for _ in range(megabytes * 10**6 // CHUNK):
                weights.write(os.urandom(CHUNK))


def copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(CHUNK):
            writer.write(piece)
        os.fsync(writer.fileno())


def download(url: str, target: Path) -> None:
    with (
        httpx.stream("GET", url, timeout=None, trust_env=False) as answer,
        target.open("wb") as file,
    ):
        answer.raise_for_status()
        for piece in answer.iter_bytes(CHUNK):
            file.write(piece)
        os.fsync(file.fileno())


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(CHUNK):
            if piece != second.read(CHUNK):
                return False
        return not second.read(1)


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The memory of a process in bytes (PSS), again and again until the block ends."""
    seen = [pss_bytes([pid])]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            seen.append(pss_bytes([pid]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def told(what: str, size: int, took: float, disk: float, memory: list[int] | None = None) -> None:
    line = (
        f"{what:<20} {took:6.1f} s   {size / took / 1e6:7.0f} MB/s   {disk / took:.2f} × the disk"
    )
    if memory:
        line += (
            f"   control plane {memory[0] / 1e6:.0f} MB before, {max(memory) / 1e6:.0f} MB at most"
        )
    print(line, flush=True)


if __name__ == "__main__":
    main()
