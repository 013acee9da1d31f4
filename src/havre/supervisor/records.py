"""The record of each process on disk: what a later supervisor adopts by.

Written beside and renamed. Not fsynced: a record means nothing after the machine itself went down,
because every process it could name is gone, and a torn one is left out.
"""

import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from havre.supervisor.identity import Identity, is_running
from havre.supervisor.protocol import ProcessSpec

FORMAT = 2
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
DAMAGED = (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError)
"""What reading something raises that is no record."""


@dataclass(frozen=True, slots=True)
class Record:
    """``exit_code`` is known once the process ended under a supervisor's eyes.

    ``warnings`` are what could not be done of its confinement. ``renewed``: the process was
    started from an earlier specification; this one is for its next start.
    """

    spec: ProcessSpec
    identity: Identity
    restarts: int = 0
    exit_code: int | None = None
    warnings: tuple[str, ...] = ()
    renewed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "digest": self.spec.digest,
            "spec": self.spec.to_json(),
            "identity": asdict(self.identity),
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "warnings": self.warnings,
            "renewed": self.renewed,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Record":
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']} is not known here")
        return cls(
            spec=ProcessSpec.from_json(stored["spec"]),
            identity=Identity.from_json(stored["identity"]),
            restarts=stored["restarts"],
            exit_code=stored["exit_code"],
            warnings=tuple(stored["warnings"]),
            renewed=bool(stored.get("renewed", False)),
        )


def save(folder: Path, record: Record) -> None:
    """Write the record of a process. Raises OSError when the folder or the disk cannot take it."""
    path = folder / f"{record.spec.name}.json"
    content = json.dumps(record.to_json()).encode()
    beside = path.with_suffix(".new")
    try:
        beside.write_bytes(content)
        beside.chmod(0o600)
        beside.rename(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno not in NO_SPACE or not path.exists():
            raise
        _overwrite(path, content)


def load_all(folder: Path) -> tuple[list[Record], list[str]]:
    """The readable records, and a sentence for each that cannot be read."""
    records, problems = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            record = Record.from_json(json.loads(path.read_bytes()))
            if record.spec.name != path.stem:
                raise ValueError(f"it names {record.spec.name!r}")
        except DAMAGED as error:
            problems.append(f"left out the record {path}: {error!r}")
        else:
            records.append(record)
    return records, problems


def running_strangers(folder: Path) -> dict[str, Identity]:
    """Processes that run, by name, and whose records only another version of havre can read."""
    named, _ = _left_out(folder)
    return {name: identity for name, identity in named.items() if is_running(identity)}


def remove_torn(folder: Path) -> list[Path]:
    """Remove what no version of havre can have written as it is. Raises OSError."""
    _, torn = _left_out(folder)
    for path in torn:
        path.unlink()
    return torn


def _left_out(folder: Path) -> tuple[dict[str, Identity], list[Path]]:
    """Of the records that `load_all` leaves out: whom they name, and those that name nobody."""
    named: dict[str, Identity] = {}
    torn: list[Path] = []
    for path in sorted(folder.glob("*.json")):
        try:
            stored = json.loads(path.read_bytes())
            identity = Identity.from_json(stored["identity"])
        except OSError:
            continue  # what it means is not known
        except DAMAGED:
            torn.append(path)
            continue
        try:
            Record.from_json(stored)
        except DAMAGED:
            named[path.stem] = identity
    return named, torn


def forget(folder: Path, name: str) -> None:
    (folder / f"{name}.json").unlink(missing_ok=True)


def _overwrite(path: Path, content: bytes) -> None:
    """On a full disk a record of the same size still fits into the blocks it has.

    Otherwise a full disk would keep the load balancer from being restarted.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
