"""The documentation holds together: links, blocks, and pages that list what the code has."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.support.documents import (
    DOCS,
    FOLLOWED,
    ROOT,
    anchor_of,
    anchors,
    blocks,
    labelled_links,
    links,
    pages,
    prose,
)

from havre.api import absent
from havre.api.app import create_app
from havre.domain import errors
from havre.home import Home

sys.path.insert(0, str(ROOT / "scripts"))
import contents

REFERENCE = DOCS / "reference"
LANGUAGES = {"", "sh", "python", "text", "console", "toml", "yaml", "json", "ini"}
MOST_NOT_RUN = 13
"""Blocks of the followed pages that no test runs. Raise it only for what no test can do."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        file = (page.parent / target).resolve() if target else page
        is_there = file.exists() and (not anchor or anchor in anchors(file))
        if not is_there:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_say_what_they_are(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    not_run = [block for page in FOLLOWED for block in blocks(page) if block.language == "console"]
    assert [str(block) for block in not_run if not block.reason] == []
    assert len(not_run) <= MOST_NOT_RUN


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
        waiting += [file for file in targets if file.suffix == ".md" and file.exists()]
    assert sorted(set(DOCS.rglob("*.md")) - seen) == []


def test_generated_pages_are_current() -> None:
    command = [sys.executable, ROOT / "scripts" / "generate-docs", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_errors_page_has_every_code() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    missing = {kind.code for kind in _tree(errors.HavreError) if f"`{kind.code}`" not in page}
    assert missing == set()


def test_the_api_page_has_every_operation() -> None:
    page = (REFERENCE / "api.md").read_text(encoding="utf-8")
    paths = create_app(Mock()).openapi()["paths"]
    answered = {f"{method.upper()} `{path}`" for path in paths for method in paths[path]}
    served_in_part = {"models", "modelDeployments"}
    nouns = {route.path.split("/")[2] for route in absent.router.routes} - served_in_part
    assert {operation for operation in answered if f"| {operation} |" not in page} == set()
    assert {noun for noun in nouns if f"`{noun}`" not in page} == set()
    assert "/20190101/modelDeployments/{deployment_id}/models/modelState`" in page


def test_the_home_page_has_every_folder() -> None:
    page = (REFERENCE / "home.md").read_text(encoding="utf-8")
    home = Home(Path("/home"))
    names = [name for name, kind in vars(Home).items() if isinstance(kind, property)]
    paths = {getattr(home, name).relative_to(home.root).parts[0] for name in names}
    assert {path for path in paths if f"`{path}" not in page} == set()


def test_promises_name_tests_that_exist() -> None:
    promises = tomllib.loads((ROOT / "tests" / "promises.toml").read_text(encoding="utf-8"))
    named = [test for topic in promises.values() for tests in topic.values() for test in tests]
    assert named
    assert [promise for topic in promises.values() for promise in topic if not topic[promise]] == []
    missing = []
    for test in named:
        file, _, name = test.partition("::")
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text():
            missing.append(test)
    assert missing == []


def test_the_promises_are_on_their_pages() -> None:
    """`make docs` writes them: this only holds that they are still there to be found."""
    promises = tomllib.loads((ROOT / "tests" / "promises.toml").read_text(encoding="utf-8"))
    sentences = [promise for topic in promises.values() for promise in topic]
    for page in (REFERENCE / "promises.md", DOCS / "explanation" / "reliability.md"):
        text = " ".join(page.read_text(encoding="utf-8").split())
        assert [sentence for sentence in sentences if sentence not in text] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_call_a_page_by_its_title(page: Path) -> None:
    """A link that reads like a title (it begins with a capital) has the title of where it leads."""
    wrong = []
    for label, link in labelled_links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        is_title = file.suffix == ".md" and "://" not in link and label[0].isupper()
        if is_title and label not in _titles(file, anchor):
            wrong.append((label, link))
    assert wrong == []


def _titles(file: Path, anchor: str) -> set[str]:
    """What a link may say: the page's title or that of the section, without its markup."""
    headings = re.findall(r"^#+ (.+)$", prose(file), flags=re.M)
    led_to = [heading for heading in headings if anchor_of(heading) == anchor]
    names = {heading.replace("`", "") for heading in (headings[0], *led_to)}
    return names | {"README", "LICENSE"}


def test_decisions_are_numbered_and_their_files_are_called_by_their_titles() -> None:
    pages_of = contents.decisions()
    titles = [contents.title(page) for page in pages_of]
    numbered = enumerate(titles, start=1)
    assert [page.name for page in pages_of] == [
        contents.file_of_decision(number, title) for number, title in numbered
    ]


def test_every_page_but_decisions_is_in_the_table_of_contents() -> None:
    listed = {f"{name}.md" for names in contents.CONTENTS.values() for name in names}
    there = {str(page.relative_to(DOCS)) for page in DOCS.glob("*/*.md")}
    assert listed == {page for page in there if not page.startswith("decisions/")}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_are_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, filename=str(block))


def _tree(kind: type[errors.HavreError]) -> list[type[errors.HavreError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _tree(child))]
