"""What commands print: results on standard output, progress and errors on standard error.

Display names come from their owners and messages from models: no control character of theirs
reaches a terminal, and none of their text is taken for markup.
"""

import json
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from havre.domain.progress import Progress
from havre.domain.reported import MAX_MESSAGE_BYTES, shorten
from havre.domain.states import DeploymentState
from havre.messages import fit

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

WIDEST = 10_000
"""Columns of a table that is not folded."""

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    console.print(fit_for_terminal(text), markup=False)


def note(sentence: str) -> None:
    """What a reader should know that is no result: on standard error."""
    errors.print(sentence, markup=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, fold: bool = True
) -> None:
    """``fold`` breaks long cells at a terminal's edge, and where they have several lines; URLs and
    what a script reads stay whole, a line for each row.
    """
    is_folded = fold and console.is_terminal
    table = make_table(columns, rows, fit_for_terminal if fold else one_line)
    (console if is_folded else Console(highlight=False, width=WIDEST)).print(table)


def print_reasons(deployments: Iterable[Mapping[str, Any]]) -> None:
    """A line below their table for each that does not serve, with the reason that the API gives."""
    for row in deployments:
        reason = row.get("lifecycleDetails")
        if reason and row["lifecycleState"] != DeploymentState.ACTIVE:
            print_text(f"{one_line(row['displayName'])} is {row['lifecycleState']}: {reason}")


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    fit: Callable[[str], str] | None = None,
) -> Table:
    """``fit`` is what makes a cell's text harmless: `one_line`, unless stated."""
    fit = fit or one_line
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(fit(cell)) for cell in row))
    return table


def fit_for_terminal(text: str) -> str:
    """Text of others, which may be anything: unprintable characters are escaped, as in ``\\x1b``,
    except for ends of lines and tabs.
    """
    return "".join(
        character if character in "\n\t" else _printable(character) for character in text
    )


def one_line(text: str) -> str:
    """The same, with ends of lines and tabs escaped, too."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def print_fault(sentence: str) -> None:
    errors.print("[red]havre:[/red]", end=" ")
    errors.print(fit_for_terminal(_fit_for_reader(sentence)), markup=False)


def print_unexpected(error: Exception) -> None:
    """A bug of havre: its traceback is for its developers, not for a terminal."""
    report = "".join(traceback.format_exception(error))
    try:
        file = Path(tempfile.mkdtemp(prefix="havre-message-"), "traceback.txt")
        file.write_text(report, errors="replace")
        where = f"please report it to its developers, with {file}"
    except OSError:
        where = report
    print_fault(f"this is a bug of havre: {type(error).__name__}: {error}; {where}")


def _fit_for_reader(sentence: str) -> str:
    if len(sentence.encode(errors="replace")) <= MAX_MESSAGE_BYTES:
        return sentence
    try:
        return fit(sentence, Path(tempfile.mkdtemp(prefix="havre-message-")))
    except OSError:
        return shorten(sentence)


@contextmanager
def progress(sentence: str, on: Console = errors) -> Iterator[Progress]:
    """Something that moves while the body runs; what it yields changes the sentence beside it."""
    with on.status(f"{sentence} …") as status:
        yield lambda step: status.update(f"{step} …")
