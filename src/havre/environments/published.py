"""The environments published on this server: a record each, replaced at once.

What was asked for is locked to exact versions at publication, so the environment that a deployment
gets next year is the one that was tried. Wheels named by path are kept in the home.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from uv import find_uv_bin

from havre import full_disk
from havre.domain.errors import EnvironmentFault, InvalidParameter, NotFound, Unavailable
from havre.domain.progress import Progress
from havre.durable import make_folder, sync_folder, write_file
from havre.environments.confinement import Enclosure
from havre.environments.definition import (
    Definition,
    EnvironmentDefinition,
    ExternalEnvironment,
    PackEnvironment,
    check_slug,
    digest_of,
    requirement_lines,
    requirements_text,
)
from havre.environments.faults import explain
from havre.environments.machine_pythons import Interpreter
from havre.environments.uv import ONLY_WHEELS, Uv, UvFailed, lacks_wheels
from havre.home import Home
from havre.supervisor.reach import interpreter_files

_INDEX_OPTION = re.compile(r"(--index-url|-i|--extra-index-url|--find-links|-f|--no-index)\b")
_PIN = re.compile(r"[A-Za-z0-9][\w.-]*(\[.*\])?==")


@dataclass(frozen=True, slots=True)
class Published:
    """One record. ``asked`` are the lines as given; the definition holds the locked ones."""

    definition: Definition
    asked: tuple[str, ...]
    published_at: float


class PublishedEnvironments:
    """The records of a home."""

    def __init__(self, home: Home, enclosure: Enclosure) -> None:
        self._root = home.environments / "published"
        self._logs = home.logs / "environments"
        self._enclosure = enclosure

    def all(self) -> dict[str, Published]:
        """By slug. A record that cannot be read is an error, not an absence."""
        files = sorted(self._root.glob("[!.]*.json"))
        return {file.name.removesuffix(".json"): _read(file) for file in files}

    def readable(self) -> list[Published]:
        """Those whose records are not damaged."""
        records = []
        for file in sorted(self._root.glob("[!.]*.json")):
            with suppress(Unavailable, FileNotFoundError):
                records.append(_read(file))
        return records

    def definitions(self) -> Mapping[str, Definition]:
        """By slug. Each is read when it is asked for, which raises Unavailable if it is damaged:
        one that is costs no other.
        """
        return _Definitions(self._root)

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
        if isinstance(definition, ExternalEnvironment):
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
            asked = requirement_lines(requirements_text(requirements.read_bytes()))
        except (OSError, ValueError) as error:
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
            lines = requirement_lines(self._locked(requirements, interpreter, log, progress))
        except UvFailed as failure:
            reason = explain(str(failure), python=interpreter.python, folder=self._root)
            raise EnvironmentFault(
                f"{requirements.name} cannot be resolved for Python {interpreter.version}: "
                f"{reason}. The full output is in {log}"
            ) from failure
        except OSError as error:
            raise Unavailable(f"{requirements.name} cannot be resolved: {error}") from error
        if editable := [line for line in lines if line.startswith(("-e", "--editable"))]:
            raise InvalidParameter(
                f"{editable[0]!r} is editable: it would change under the models that use it. "
                "Build a wheel ('uv build --wheel') and name that file"
            )
        return lines

    def _locked(
        self, requirements: Path, interpreter: Interpreter, log: Path, progress: Progress
    ) -> str:
        """What uv makes of the file. Wheels go first: to ask others runs code of theirs."""
        folder = requirements.absolute().parent
        compile_ = ["pip", "compile", "--no-header", "--no-annotate"]
        compile_ += ["--python", str(interpreter.path), str(requirements.absolute())]
        with self._enclosure.scratch() as kept:
            kept_file = kept / "locked.txt"
            compile_ += ["--output-file", str(kept_file)]
            uv = Uv(self._enclosure)
            try:
                ready = [*compile_, *ONLY_WHEELS]
                uv.run(ready, log=log, folder=folder, progress=progress, writable=[kept])
            except UvFailed as failure:
                if not lacks_wheels(failure):
                    raise
                progress("not all of it is there ready-made: packages are asked what they require")
                read = [folder, *interpreter_files(interpreter.path)]
                stranger = self._enclosure.stranger(
                    f"locking {requirements}", reads=[Path(find_uv_bin()), requirements, *read]
                )
                if stranger.note:
                    progress(stranger.note)
                uv.run_foreign(
                    compile_,
                    stranger=stranger,
                    scratch=kept,
                    log=log,
                    folder=Path("/"),
                    progress=progress,
                    readable=read,
                )
            return kept_file.read_text()

    def _keep(self, line: str, folder: Path) -> str:
        """A line that names a file, pointing at our copy of it; any other line as it is."""
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
            for way in (kept.parent.parent, kept.parent):
                way.chmod(0o711)  # who compiles may be another user
            write_file(kept, content, mode=0o644)
        except OSError as error:
            cause = full_disk.cause(error, kept.parent, needed=len(content))
            raise Unavailable(f"{source.name} cannot be kept in the home: {cause}") from error
        return str(kept)

    def _file(self, slug: str) -> Path:
        return self._root / f"{check_slug(slug)}.json"


class _Definitions(Mapping[str, Definition]):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slugs = [file.name.removesuffix(".json") for file in folder.glob("[!.]*.json")]

    def __getitem__(self, slug: str) -> Definition:
        if slug not in self._slugs:
            raise KeyError(slug)
        try:
            return _read(self._folder / f"{slug}.json").definition
        except FileNotFoundError:
            raise KeyError(slug) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._slugs)

    def __len__(self) -> int:
        return len(self._slugs)

    def __contains__(self, slug: object) -> bool:
        return slug in self._slugs  # damaged or not


def _read(file: Path) -> Published:
    """Raises FileNotFoundError, and Unavailable for a file that is damaged."""
    try:
        stored = json.loads(file.read_bytes())
        definition: Definition
        if "prefix" in stored:
            definition = ExternalEnvironment(
                stored["slug"], stored["python"], Path(stored["prefix"]), "used in place"
            )
        elif "pack" in stored:
            definition = PackEnvironment.from_json(stored["pack"])
        else:
            definition = EnvironmentDefinition.from_json(stored["definition"])
        return Published(definition, tuple(stored["asked"]), stored["published_at"])
    except FileNotFoundError:
        raise
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise Unavailable(
            f"{file} is damaged ({error!r}): publish that environment again, or remove the file"
        ) from error
    except InvalidParameter as error:
        raise Unavailable(
            f"{file} is damaged ({error}): publish that environment again, or remove the file"
        ) from error
