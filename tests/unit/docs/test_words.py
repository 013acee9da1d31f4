"""One word for one thing: what the glossary says is not said, is not."""

import ast
import re
from collections.abc import Iterator
from typing import Any

import typer
from tests.documents import DOCS, ROOT, pages, prose

from havre.cli.main import app
from havre.settings import SETTINGS

GLOSSARY = DOCS / "reference" / "glossary.md"


def _unwanted() -> re.Pattern[str]:
    """The last column of the glossary's table, in singular and plural."""
    rows = re.findall(r"^\| \*\*.*\|([^|]+)\|$", GLOSSARY.read_text(encoding="utf-8"), flags=re.M)
    words = {word.strip() for row in rows for word in row.split(",")} - {""}
    assert len(words) > 20
    return re.compile(rf"\b({'|'.join(map(re.escape, sorted(words)))})s?\b", re.IGNORECASE)


UNWANTED = _unwanted()


def test_commands_and_settings_speak_our_words() -> None:
    texts = [text for command in _commands(typer.main.get_command(app)) for text in _help(command)]
    texts += [setting.help for setting in SETTINGS]
    assert [text for text in texts if UNWANTED.search(text)] == []


def test_no_help_is_lost_as_markup() -> None:
    texts = [text for command in _commands(typer.main.get_command(app)) for text in _help(command)]
    assert [text for text in texts if "[" in text] == []


def test_docstrings_speak_our_words() -> None:
    found = [
        f"{module.relative_to(ROOT)}: {text}"
        for module in sorted(ROOT.glob("src/**/*.py"))
        for text in _docstrings(ast.parse(module.read_text(encoding="utf-8")))
        if UNWANTED.search(text)
    ]
    assert found == []


def test_pages_speak_our_words() -> None:
    found = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in pages()
        if page != GLOSSARY
        for line in re.sub(r"`[^`]*`", "", prose(page)).splitlines()
        if UNWANTED.search(line)
    ]
    assert found == []


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child)


def _help(command: Any) -> list[str]:
    return [command.help or "", *(getattr(param, "help", "") or "" for param in command.params)]


def _docstrings(module: ast.Module) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(module):
        if isinstance(node, kinds) and not getattr(node, "name", "").startswith("_"):
            yield ast.get_docstring(node) or ""
