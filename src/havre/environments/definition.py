"""What an inference environment is: a Python version and the packages in it.

The environments that havre brings are the files in ``definitions/``, named by their slug: adding a
file adds an environment. ``scripts/lock-environments`` writes them.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from havre.domain.errors import InvalidParameter

GENERAL = "generalml"
"""The family of the default environment."""

DEFAULT_PYTHON = "3.8"
"""The Python of the default environment, as in the original service."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_SERVICE_SLUG = re.compile(
    r"(?P<family>[a-z0-9_]+?)_?p(?P<major>3)(?P<minor>\d{1,2})_(?P<device>cpu|gpu|any)"
    r"(?:_(?P<processor>x86_64|aarch64))?_v\d+"
)
_PYTHON = re.compile(r"3\.\d{1,2}")
_NO_WHEEL = re.compile(r"^# No wheel of: ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EnvironmentDefinition:
    """``python`` is two numbers (``3.8``); ``requirements`` are lines of a requirements file.

    ``wheels_only`` refuses packages that would have to be compiled, which runs code of theirs.
    """

    slug: str
    python: str
    requirements: tuple[str, ...]
    title: str = ""
    wheels_only: bool = True

    @property
    def digest(self) -> str:
        """Names the content: the same packages under another slug are the same environment."""
        return digest_of([self.python, list(self.requirements), self.wheels_only])

    def to_json(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "python": self.python,
            "requirements": list(self.requirements),
            "title": self.title,
            "wheels_only": self.wheels_only,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "EnvironmentDefinition":
        return cls(**{**stored, "requirements": tuple(stored["requirements"])})


@dataclass(frozen=True, slots=True)
class ExternalEnvironment:
    """An environment that somebody else made and keeps: used where it lies, never changed."""

    slug: str
    python: str
    prefix: Path
    title: str = ""

    @property
    def interpreter(self) -> Path:
        return self.prefix / "bin" / "python"

    @property
    def digest(self) -> str:
        return digest_of([self.python, str(self.prefix)])


@dataclass(frozen=True, slots=True)
class PackEnvironment:
    """An environment in an archive with conda-pack's layout, run with the interpreter inside it.

    ``source`` is a file or an ``oci://`` address; ``identity`` names its content (a hash, or the
    object store's tag of it); ``size`` is in bytes. ``python`` is empty until it was unpacked.
    """

    slug: str
    source: str
    identity: str
    size: int
    python: str = ""
    title: str = ""

    @property
    def digest(self) -> str:
        return digest_of(["pack", self.identity])

    def to_json(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "source": self.source,
            "identity": self.identity,
            "size": self.size,
            "python": self.python,
            "title": self.title,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "PackEnvironment":
        return cls(**stored)


Definition = EnvironmentDefinition | ExternalEnvironment | PackEnvironment


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """An environment that is ready to run: ``interpreter`` is the file to execute.

    ``python_version`` is exact (``3.8.18``). ``digest`` names the definition and that version.
    """

    digest: str
    slug: str
    prefix: Path
    interpreter: Path
    python_version: str


@dataclass(frozen=True, slots=True)
class ServiceSlug:
    """What the slug of an environment of the original service stands for.

    ``device`` is ``cpu``, ``gpu`` or ``any``; ``processor`` is empty where the slug is silent.
    """

    family: str
    python: str
    device: str
    processor: str = ""


def builtin_definitions() -> dict[str, EnvironmentDefinition]:
    """The environments that havre brings, by slug, oldest Python first."""
    return dict(_builtin())


def parse_service_slug(slug: str) -> ServiceSlug | None:
    """``generalml_p38_cpu_v1`` → family ``generalml``, Python ``3.8``, ``cpu``; None if unlike."""
    match = _SERVICE_SLUG.fullmatch(slug)
    if match is None:
        return None
    python = f"{match['major']}.{int(match['minor'])}"
    return ServiceSlug(match["family"], python, match["device"], match["processor"] or "")


def check_slug(slug: str) -> str:
    """The slug, if it can name an environment and a file. Raises InvalidParameter."""
    if not _SLUG.fullmatch(slug):
        raise InvalidParameter(
            f"{slug!r} cannot be an environment's slug: use up to 100 lower-case letters, digits, "
            "'_', '-' and '.', beginning with a letter or digit"
        )
    return slug


def check_python(python: str) -> str:
    """The version, if it is two numbers. Raises InvalidParameter."""
    if not _PYTHON.fullmatch(python):
        raise InvalidParameter(f"{python!r} is not a Python version such as 3.10")
    return python


def digest_of(identity: Any) -> str:
    """Thirty-two hex digits: short enough for the first line of a script in the environment."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def requirements_text(content: bytes) -> str:
    """The text of a requirements file: UTF-8, or UTF-16 with its mark, which PowerShell's ``>``
    writes. Raises ValueError that says what to do.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("it is not UTF-8 text (it has NUL characters): save it as UTF-8")
    return text.replace("\r\n", "\n")


def requirement_lines(text: str) -> tuple[str, ...]:
    """The lines of a requirements file without comments and blanks; continued lines are joined."""
    joined = text.replace("\\\n", " ")
    return tuple(_without_comments(joined.splitlines()))


def python_order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _without_comments(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        stripped = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if stripped:
            yield stripped


@cache
def _builtin() -> tuple[tuple[str, EnvironmentDefinition], ...]:
    definitions = []
    for file in files(__package__).joinpath("definitions").iterdir():
        slug = file.name.removesuffix(".txt")
        parsed = parse_service_slug(slug)
        if slug == file.name or parsed is None:
            continue
        text = file.read_text()
        title = text.partition("\n")[0].lstrip("# ")
        lines, wheels_only = requirement_lines(text), not _NO_WHEEL.search(text)
        definitions.append(EnvironmentDefinition(slug, parsed.python, lines, title, wheels_only))
    definitions.sort(key=lambda definition: (python_order(definition.python), definition.slug))
    return tuple((definition.slug, definition) for definition in definitions)
