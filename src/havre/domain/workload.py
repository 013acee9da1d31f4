"""What a revision was made into, and an engine starts.

There is one kind. Another, such as the image of a whole program, is a class beside it with
``to_json`` and ``from_json``, named in `Workload` and in `KINDS`: the type checker then leads to
everyone who must know of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class PythonWorkload:
    """A model in Python: the folder that has its ``score.py``, and the interpreter of its
    environment.
    """

    interpreter: Path
    python_version: str
    artifact: Path

    def to_json(self) -> dict[str, Any]:
        return {
            "interpreter": str(self.interpreter),
            "python_version": self.python_version,
            "artifact": str(self.artifact),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "PythonWorkload":
        return cls(Path(stored["interpreter"]), stored["python_version"], Path(stored["artifact"]))


Workload = PythonWorkload

KIND = "kind"
KINDS: Mapping[str, type[Workload]] = {"python": PythonWorkload}


def to_json(workload: Workload) -> dict[str, Any]:
    (kind,) = (name for name, of_kind in KINDS.items() if isinstance(workload, of_kind))
    return {KIND: kind, **workload.to_json()}


def from_json(stored: Mapping[str, Any]) -> Workload:
    return KINDS[stored[KIND]].from_json(stored)
