"""How long environments take: built from a warm package cache, unpacked, found again.

    python -m bench.environments [--pack-mb 500] [--rounds 3]

Prints one JSON object; seconds are medians. The general environment needs a package index once.
"""

import argparse
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from havre.domain.manifest import RuntimeManifest
from havre.environments import Environments
from havre.home import Home
from havre.settings import load_settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack-mb", type=int, default=500, help="unpacked size of the pack")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="havre-bench-") as folder:
        place = Path(folder)
        home = Home(place / "home")
        home.make()
        environments = Environments(home, load_settings(home.root, environ={}))
        chosen = environments.resolve(RuntimeManifest(), place)
        slug = chosen.definition.slug
        environments.ensure(chosen, quiet)  # warms the cache, copies the interpreter

        def build() -> None:
            environments.remove(slug)
            timed["build_s"].append(seconds(lambda: environments.ensure(chosen, quiet)))

        def find() -> None:
            timed["cached_s"].append(
                seconds(
                    lambda: environments.ensure(
                        environments.resolve(RuntimeManifest(), place), quiet
                    )
                )
            )

        archive = place / "pack.tar.gz"
        environments.export(slug, archive, quiet)
        archive = grown(archive, place / "grown.tar.gz", options.pack_mb)

        def unpack() -> None:
            took = seconds(lambda: environments.publish_pack("bench", archive, progress=quiet))
            timed["unpack_s"].append(took)
            environments.remove("bench")

        timed: dict[str, list[float]] = {"build_s": [], "cached_s": [], "unpack_s": []}
        for _ in range(options.rounds):
            for step in (build, find, unpack):
                step()
        result: dict[str, object] = {"environment": slug, "pack_mb": size_mb(archive)}
        result |= {name: round(statistics.median(each), 3) for name, each in timed.items()}
        print(json.dumps(result, indent=2))


def grown(archive: Path, into: Path, megabytes: int) -> Path:
    """The pack with what it takes to unpack to this size; the added bytes do not compress."""
    with tarfile.open(archive) as source, tarfile.open(into, "w:gz", compresslevel=1) as target:
        total = 0
        for entry in source:
            target.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
            total += entry.size
        filling = tarfile.TarInfo("share/filling")
        filling.size = max(0, megabytes * 10**6 - total)
        with open("/dev/urandom", "rb") as noise:
            target.addfile(filling, noise)
    return into


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def size_mb(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)


def quiet(line: str) -> None:
    del line


if __name__ == "__main__":
    main()
