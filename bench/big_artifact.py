"""How quickly a large artifact goes up and down, and what it costs the control plane in memory.

    python -m bench.big_artifact [--megabytes 2000] [--folder /tmp]

Beside each, the same bytes copied on the same disk, with an fsync at the end. The memory of the
control plane and of the load balancer is watched all the time.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

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
        model_id = server.client.create_model("big")["id"]
        url = f"{server.client.url}/20190101/models/{model_id}/artifact/content"
        pids = {"control plane": server.control_plane(), "balancer": server.balancer()}
        for what, action in (
            ("uploaded", lambda: server.client.upload_artifact(model_id, archive)),
            ("downloaded", lambda: download(url, copied)),
        ):
            disk = seconds(lambda: copy(archive, copied))
            told("copied on this disk", size, disk, disk)
            copied.unlink()
            with watched(pids) as memory:
                took = seconds(action)
            told(what, size, took, disk, memory)
        if not same(archive, copied):
            sys.exit("what came back is not what was sent")


def write(archive: Path, megabytes: int) -> None:
    """A valid artifact with a file of random bytes, stored and not compressed; the disk has it."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("score.py", SMALLEST)
        with file.open("weights.bin", "w", force_zip64=True) as weights:
            for _ in range(megabytes * 10**6 // CHUNK):
                weights.write(os.urandom(CHUNK))
    with archive.open("rb") as written:
        os.fsync(written.fileno())


def copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(CHUNK):
            writer.write(piece)
        os.fsync(writer.fileno())


def download(url: str, target: Path) -> None:
    """The way of the least work for a client: into one buffer and from there to the disk."""
    server = urlsplit(url)
    connection = HTTPConnection(server.netloc)
    piece = memoryview(bytearray(CHUNK))
    with closing(connection), target.open("wb", buffering=0) as file:
        connection.request("GET", server.path)
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise SystemExit(f"{url} answered {answer.status}: {answer.read(CHUNK)!r}")
        while size := answer.readinto(piece):
            file.write(piece[:size])
        os.fsync(file.fileno())


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(CHUNK):
            if piece != second.read(CHUNK):
                return False
        return not second.read(1)


@contextmanager
def watched(pids: Mapping[str, int]) -> Iterator[dict[str, list[int]]]:
    """The memory of processes in bytes (PSS), by name, again and again until the block ends."""
    seen = {name: [pss_bytes([pid])] for name, pid in pids.items()}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            for name, pid in pids.items():
                seen[name].append(pss_bytes([pid]))

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


def told(
    what: str, size: int, took: float, disk: float, memory: Mapping[str, list[int]] | None = None
) -> None:
    print(
        f"{what:<20} {took:6.1f} s   {size / took / 1e6:7.0f} MB/s   {took / disk:.2f} × the copy"
    )
    for name, seen in (memory or {}).items():
        print(f"  {name}: {seen[0] / 1e6:.0f} MB before, {max(seen) / 1e6:.0f} MB at most")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
