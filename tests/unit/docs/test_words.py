"""One word for one thing: what the glossary says is not said, is not."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer
from tests.support.documents import DOCS, ROOT, pages, prose

from havre.cli.main import app
from havre.settings_table import SETTINGS

GLOSSARY = DOCS / "reference" / "glossary.md"

INTRODUCTIONS = re.compile(r"\(elsewhere\s+called\s+a\s+replica\)")
"""Where a page says by which other word a reader may know a thing."""

OTHERS_WORDS = {"CHANGELOG.md", "docs/reference/commands.md", "docs/reference/settings.md"}
"""Pages of other times, and those that repeat the help, which is asked below."""


def _rows(heading: str) -> list[list[str]]:
    """Cells of the table below a heading of the glossary."""
    text = GLOSSARY.read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 20
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _words(rows: list[list[str]], column: int) -> list[str]:
    return sorted({word.strip() for row in rows for word in row[column].split(",")} - {""})


def _any_of(words: list[str], endings: str) -> re.Pattern[str]:
    return re.compile(rf"\b({'|'.join(map(re.escape, words))}){endings}\b", re.IGNORECASE)


VERBS = _rows("Verbs and internal nouns")
UNWANTED = _any_of(_words(_rows("Nouns"), 2), "s?")
UNSAID = _any_of(_words(VERBS, 3), "")
UNNAMED = {word for word in _words(VERBS, 2) if not word.endswith("(alone)")}
UNNAMED_ALONE = {word.partition(" (")[0] for word in _words(VERBS, 2)} - UNNAMED


def test_commands_and_settings_speak_our_words() -> None:
    texts = [text for command in _commands(typer.main.get_command(app)) for text in _help(command)]
    texts += [setting.help for setting in SETTINGS]
    assert [text for text in texts if UNWANTED.search(text)] == []


def test_no_help_is_lost_as_markup() -> None:
    texts = [text for command in _commands(typer.main.get_command(app)) for text in _help(command)]
    assert [text for text in texts if "[" in text] == []


def test_docstrings_speak_our_words() -> None:
    found = [
        f"{path}: {text}"
        for path, module in _modules()
        for text in _docstrings(module)
        if UNWANTED.search(text)
    ]
    assert found == []


def test_pages_speak_our_words() -> None:
    assert list(_said_in_pages(UNWANTED)) == []


def test_pages_speak_the_fields_verbs() -> None:
    said = _said_in_pages(UNSAID)
    assert [line for line in said if line.partition(":")[0] not in OTHERS_WORDS] == []


def test_names_are_of_the_glossary() -> None:
    names = [(path, name) for path, module in _modules() for name in _names(module)]
    names += [("a setting", setting.name) for setting in SETTINGS]
    assert [f"{path}: {name}" for path, name in names if _is_refused(name)] == []


def test_docstrings_messages_and_help_speak_the_fields_verbs() -> None:
    texts = [(path, text) for path, module in _modules() for text in _sentences(module)]
    assert [f"{path}: {text}" for path, text in texts if UNSAID.search(text)] == []


def _said_in_pages(words: re.Pattern[str]) -> Iterator[str]:
    for page in pages():
        if page == GLOSSARY:
            continue
        text = INTRODUCTIONS.sub("", re.sub(r"`[^`]*`", "", prose(page)))
        for line in text.splitlines():
            if words.search(line):
                yield f"{page.relative_to(ROOT)}: {line}"


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child)


def _help(command: Any) -> list[str]:
    return [command.help or "", *(getattr(param, "help", "") or "" for param in command.params)]


@cache
def _modules() -> tuple[tuple[str, ast.Module], ...]:
    paths = sorted(ROOT.glob("src/**/*.py"))
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths
    )


def _docstrings(module: ast.Module) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(module):
        if isinstance(node, kinds) and not getattr(node, "name", "").startswith("_"):
            yield ast.get_docstring(node) or ""


def _sentences(module: ast.Module) -> Iterator[str]:
    """Texts of more than a word: docstrings, messages, help of commands, settings and metrics."""
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield " ".join(node.value.split())


def _names(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Constant(value=str(name)) if re.fullmatch(r"havre_[a-z_]+", name):
                yield name  # a metric


def _is_refused(name: str) -> bool:
    """Whether words of the glossary are parts of a name, or all of it."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    runs = {
        " ".join(parts[start : start + length])
        for length in (1, 2)
        for start in range(len(parts) - length + 1)
    }
    return "_".join(parts) in UNNAMED_ALONE or bool(runs & UNNAMED)
