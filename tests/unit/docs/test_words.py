"""One word for one thing: what the glossary says is not said, is not."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
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
"""Pages of other times, and those that repeat the help, which is counted below."""

NAMES_LEFT: Mapping[str, int] = {
    "answer": 3,
    "answers": 5,
    "each": 12,
    "found": 57,
    "least": 1,
    "most": 10,
    "nobody": 1,
    "one": 7,
    "place": 14,
    "places": 3,
    "said": 2,
    "say": 1,
    "seen": 8,
    "tell": 1,
    "told": 6,
    "wanted": 10,
}
"""How often names have a part that the glossary refuses, still. The aim is none: a figure may only
fall, and it must be what is there."""

SENTENCES_LEFT: Mapping[str, int] = {
    "tell": 2,
    "tells": 4,
    "told": 4,
    "wish": 1,
}
"""The same of docstrings, messages and help."""


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
    left = Counter(word for _, module in _modules() for word in _refused_of(module))
    left.update(word for setting in SETTINGS for word in _refused(setting.name))
    there = dict(sorted(left.items()))
    assert there == NAMES_LEFT, f"NAMES_LEFT is {there}"


def test_docstrings_messages_and_help_speak_the_fields_verbs() -> None:
    texts = [text for _, module in _modules() for text in _sentences(module)]
    left = Counter(word.lower() for text in texts for word in UNSAID.findall(text))
    there = dict(sorted(left.items()))
    assert there == SENTENCES_LEFT, f"SENTENCES_LEFT is {there}"


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


def _refused_of(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from _refused(name)
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield from _refused(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield from _refused(name)
            case ast.Constant(value=str(name)) if re.fullmatch(r"havre_[a-z_]+", name):
                yield from _refused(name)  # a metric


def _refused(name: str) -> Iterator[str]:
    """Words of the glossary that are parts of a name, or all of it."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_").split("_")
    if "_".join(parts) in UNNAMED_ALONE:
        yield parts[0]
    for length in (1, 2):
        for start in range(len(parts) - length + 1):
            if (words := " ".join(parts[start : start + length])) in UNNAMED:
                yield words
