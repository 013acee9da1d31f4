"""How commands speak: results on standard output, progress and errors on standard error."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal takes for commands."""

WIDEST = 10_000
"""Columns of a table that is not folded."""

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Step(Protocol):
    def __call__(self, sentence: str) -> None: ...


def say(sentence: str) -> None:
    console.print(sentence, markup=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, fold: bool = True
) -> None:
    """``fold`` breaks long cells at a terminal's edge; URLs and what a script reads stay whole."""
    is_folded = fold and console.is_terminal
    table = make_table(columns, rows)
    (console if is_folded else Console(highlight=False, width=WIDEST)).print(table)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def fit_for_terminal(text: str) -> str:
    """What others wrote, which may be anything."""
    return _UNFIT.sub("�", text)


def print_fault(sentence: str) -> None:
    errors.print("[red]havre:[/red]", end=" ")
    errors.print(sentence, markup=False)


@contextmanager
def progress(sentence: str, on: Console = errors) -> Iterator[Step]:
    """Something that moves while the body runs; the step handed out changes its sentence."""
    with on.status(f"{sentence} …") as status:
        yield lambda step: status.update(f"{step} …")
