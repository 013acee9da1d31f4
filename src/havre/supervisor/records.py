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


@dataclass(frozen=True, slots=True)
class Record:
    """``exit_code`` is known once the process ended under a supervisor's eyes.

    ``warnings`` tell what could not be done of its confinement. ``renewed``: the process was
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
            identity=Identity(**stored["identity"]),
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
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems.append(f"left out the record {path}: {error!r}")
        else:
            records.append(record)
    return records, problems


def running_strangers(folder: Path) -> list[str]:
    """Names of processes that run, and whose records only another version of havre can read."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            stored = json.loads(path.read_bytes())
            identity = Identity(**stored["identity"])
        except (ValueError, KeyError, TypeError, OSError):
            continue  # torn: of a boot that is over
        try:
            Record.from_json(stored)
        except (ValueError, KeyError, TypeError):
            if is_running(identity):
                found.append(path.stem)
    return found


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
