"""Who is measured: a folder each, with peer.toml, its requirements and serve.py.

peer.toml says what it is called and how it is asked; serve.py runs in an environment of its own and
serves what models/asked.py tells it to. See bench/README.md for how to add one.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.forms import FORMS, Form

HERE = Path(__file__).parent
PYTHON = "3.11"


class UnknownName(Exception):
    """Something was asked for that the suite does not have."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way to run a peer. A peer with several has one ``[servers.NAME]`` for each.

    ``path``: of its predictions, with ``{workload}`` where the model's name belongs; havre's is
    known only once it runs. ``workloads``: those it is fit for; empty: all. ``batch``: requests at
    most in one call of predict. ``quick``: part of `make bench-quick`.
    """

    name: str
    title: str
    folder: Path
    form: Form
    path: str
    python: str = PYTHON
    workloads: tuple[str, ...] = ()
    batch: int = 1
    quick: bool = False

    @property
    def requirements(self) -> Path:
        return self.folder / "requirements.txt"

    def takes(self, workload: str) -> bool:
        return not self.workloads or workload in self.workloads


def servers() -> dict[str, Server]:
    """All, by name."""
    found = (server for file in sorted(HERE.glob("*/peer.toml")) for server in read(file))
    return {one.name: one for one in found}


def chosen(names: Iterable[str]) -> list[Server]:
    """Those of these names, in this order. Raises UnknownName."""
    known = servers()
    for name in names:
        if name not in known:
            raise UnknownName(f"no server is called {name}; there are {', '.join(sorted(known))}")
    return [known[name] for name in names]


def read(file: Path) -> list[Server]:
    """What one peer.toml describes."""
    described = tomllib.loads(file.read_text(encoding="utf-8"))
    each = described.pop("servers")
    form = FORMS[described.pop("form")]
    return [
        Server(
            name=name,
            folder=file.parent,
            form=form,
            workloads=tuple(own.pop("workloads", ())),
            **{**described, **own},
        )
        for name, own in each.items()
    ]
