"""The environments published on this server: a record each, replaced at once.

What was asked for is locked to exact versions at publication, so the environment that a deployment
gets next year is the one that was tried. Wheels named by path are kept in the home.
"""

import hashlib
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from havre.domain.errors import EnvironmentFault, InvalidParameter, NotFound, Unavailable
from havre.durable import make_folder, sync_folder, write_file
from havre.environments.definition import (
    Definition,
    EnvironmentDefinition,
    InPlaceEnvironment,
    PackEnvironment,
    check_slug,
    digest_of,
    requirement_lines,
)
from havre.environments.faults import explain
from havre.environments.interpreters import Interpreter
from havre.environments.uv import Progress, UvFailed, run_uv

_INDEX_OPTION = re.compile(r"(--index-url|-i|--extra-index-url|--find-links|-f|--no-index)\b")
_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[.*\])?==")


@dataclass(frozen=True, slots=True)
class Published:
    """One record. ``asked`` are the lines given; the definition holds the locked ones."""

    definition: Definition
    asked: tuple[str, ...]
    published_at: float


class PublishedEnvironments:
    """The records below ``root/published``."""

    def __init__(self, root: Path, logs: Path) -> None:
        self._root = root / "published"
        self._logs = logs

    def all(self) -> dict[str, Published]:
        """By slug. A record that cannot be read is an error, not an absence."""
        files = sorted(self._root.glob("[!.]*.json"))
        return {file.name.removesuffix(".json"): _read(file) for file in files}

    def get(self, slug: str) -> Published:
        """Raises NotFound."""
        try:
            return _read(self._file(slug))
        except FileNotFoundError as error:
            raise NotFound(f"no environment {slug!r} is published on this server") from error

    def put(self, record: Published) -> None:
        """Store or replace the record of a slug. Raises Unavailable."""
        definition = record.definition
        stored: dict[str, Any] = {
            "asked": list(record.asked),
            "published_at": record.published_at,
        }
        if isinstance(definition, InPlaceEnvironment):
            stored["prefix"] = str(definition.prefix)
            stored |= {"slug": definition.slug, "python": definition.python}
        elif isinstance(definition, PackEnvironment):
            stored["pack"] = definition.to_json()
        else:
            stored["definition"] = definition.to_json()
        try:
            make_folder(self._root)
            write_file(self._file(definition.slug), json.dumps(stored, indent=1).encode())
        except OSError as error:
            raise Unavailable(f"the environment cannot be recorded: {error}") from error

    def remove(self, slug: str) -> None:
        """Forget a slug. Raises NotFound."""
        try:
            self._file(slug).unlink()
        except FileNotFoundError as error:
            raise NotFound(f"no environment {slug!r} is published on this server") from error
        sync_folder(self._root)

    def lock(
        self, slug: str, requirements: Path, interpreter: Interpreter, progress: Progress
    ) -> Published:
        """Exact versions for a requirements file, and the record that holds them.

        Raises InvalidParameter (no such file) or EnvironmentFault (cannot be met together).
        """
        check_slug(slug)
        try:
            asked = requirement_lines(requirements.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"{requirements} cannot be read: {error}") from error
        progress(f"resolving {requirements.name} for Python {interpreter.version}")
        lines = self._compile(slug, requirements, interpreter, progress)
        folder = requirements.absolute().parent
        options = [line for line in asked if _INDEX_OPTION.match(line)]
        locked = (*options, *(self._keep(line, folder) for line in lines))
        definition = EnvironmentDefinition(
            slug, interpreter.python, locked, f"published from {requirements.name}", False
        )
        return Published(definition, asked, time.time())

    def _compile(
        self, slug: str, requirements: Path, interpreter: Interpreter, progress: Progress
    ) -> tuple[str, ...]:
        log = self._logs / f"publish-{slug}.log"
        try:
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(log, b"")
            with tempfile.TemporaryDirectory(prefix="havre-lock-") as folder:
                output = Path(folder) / "locked.txt"
                run_uv(
                    [
                        *("pip", "compile", "--no-header", "--no-annotate"),
                        *("--python", str(interpreter.path), "--output-file", str(output)),
                        str(requirements.absolute()),
                    ],
                    log=log,
                    folder=requirements.absolute().parent,
                    progress=progress,
                )
                lines = requirement_lines(output.read_text())
        except UvFailed as failure:
            reason = explain(str(failure), python=interpreter.python)
            raise EnvironmentFault(
                f"{requirements.name} cannot be resolved for Python {interpreter.version}: "
                f"{reason}. The whole story is in {log}"
            ) from failure
        except OSError as error:
            raise Unavailable(f"{requirements.name} cannot be resolved: {error}") from error
        if editable := [line for line in lines if line.startswith(("-e", "--editable"))]:
            raise InvalidParameter(
                f"{editable[0]!r} is editable: it would change under the models that use it. "
                "Build a wheel ('uv build --wheel') and name that file"
            )
        return lines

    def _keep(self, line: str, folder: Path) -> str:
        """A line that names a file, pointing at a copy of ours; any other line as it is."""
        address = (line.partition(" @ ")[2] or line).partition(" ;")[0].strip()
        if _PIN.match(line) or ("://" in address and not address.startswith("file://")):
            return line
        source = folder / unquote(address.removeprefix("file://"))
        if not source.is_file():
            raise InvalidParameter(
                f"{line!r} is not a file: build a wheel ('uv build --wheel') and name that file"
            )
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        kept = self._root.parent / "files" / digest_of(digest) / source.name
        try:
            make_folder(kept.parent)
            write_file(kept, content)
        except OSError as error:
            raise Unavailable(f"{source.name} cannot be kept in the home: {error}") from error
        return str(kept)

    def _file(self, slug: str) -> Path:
        return self._root / f"{check_slug(slug)}.json"


def _read(file: Path) -> Published:
    try:
        stored = json.loads(file.read_bytes())
        definition: Definition
        if "prefix" in stored:
            definition = InPlaceEnvironment(
                stored["slug"], stored["python"], Path(stored["prefix"]), "used in place"
            )
        elif "pack" in stored:
            definition = PackEnvironment.from_json(stored["pack"])
        else:
            definition = EnvironmentDefinition.from_json(stored["definition"])
        return Published(definition, tuple(stored["asked"]), stored["published_at"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{file} is damaged: publish that environment again") from error
