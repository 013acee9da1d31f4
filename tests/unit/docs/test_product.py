"""What the pages say of the product is so: commands, options, what is missing, what it is under."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from fastapi.routing import APIRoute
from pydantic import ValidationError
from tests.support.documents import DOCS, ROOT, Block, blocks, links, pages, prose
from tests.unit.contract.test_deployments import (
    CONFIGURATION,
    ENVIRONMENT,
    SCALING,
    request_with,
)

from havre.api import absent
from havre.api.app import ROUTERS
from havre.cli.doctor import programs
from havre.cli.main import app
from havre.contract.deployments import CreateModelDeploymentDetails

INLINE = re.compile(r"`havre((?: [^`]*)?)`")
IN_A_BLOCK = re.compile(r"(?:^|[$(|;&]|\bsudo|\buntil|\bdo)[ ]*havre((?: [^\n|;&)]*)?)", re.M)
OPTION = re.compile(r"(?<=\s)--?[a-zA-Z][a-z-]*")


def commands() -> dict[str, set[str]]:
    """Each command, as it is typed, and its options."""
    found: dict[str, set[str]] = {}

    def look(command, name: str) -> None:
        found[name] = {
            text for each in command.params for text in (*each.opts, *each.secondary_opts)
        } | {"--help"}
        for word, below in getattr(command, "commands", {}).items():
            look(below, f"{name} {word}".strip())

    look(typer.main.get_command(app), "")
    return found


def typed() -> Iterator[tuple[str, str]]:
    """Page and words, wherever a page types the command."""
    for page in pages():
        if page.name == "CHANGELOG.md" or page.parent.name == "decisions":
            continue  # of other times
        texts = [match[1] for match in INLINE.finditer(prose(page))]
        texts += [
            match[1]
            for block in blocks(page)
            if block.language in ("sh", "console")
            for match in IN_A_BLOCK.finditer(_commands_in(block))
        ]
        for words in texts:
            yield str(page.relative_to(ROOT)), " ".join(words.split())


def _commands_in(block: Block) -> str:
    """Without what they print, where both are shown."""
    text = block.text.replace("\\\n", " ")
    if block.language == "sh":
        return text
    return "\n".join(line for line in text.splitlines() if line.startswith("$ "))


def test_every_command_that_a_page_types_is_there_with_its_options() -> None:
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    seen, wrong = 0, []
    for page, words in typed():
        first, *rest = words.partition("#")[0].split() or [""]
        name = f"{first} {rest[0]}" if first in groups and rest else first
        seen += 1
        if name not in known:
            wrong.append((page, words))
            continue
        stated = set(OPTION.findall(" " + re.sub(r"\"[^\"]*\"|'[^']*'", "", " ".join(rest))))
        if unknown := stated - known[name]:
            wrong.append((page, words, str(unknown)))
    assert wrong == []
    assert seen > 100


def test_the_page_of_commands_tells_what_deploying_a_name_again_does() -> None:
    told = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    section = told[told.index("## havre deploy") : told.index("## havre deploy") + 3000]
    for word in ("--reset", "--no-wait", "keep their values", "no cap"):
        assert word in " ".join(section.split())


def test_the_readme_leads_to_every_page_but_decisions() -> None:
    shown = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    pages_of = {page for page in DOCS.glob("*/*.md") if page.parent.name != "decisions"}
    assert sorted(pages_of - shown) == []


def test_what_the_tutorial_says_of_errors_leads_to_the_logs() -> None:
    section = (DOCS / "tutorial" / "first-model.md").read_text(encoding="utf-8")
    section = section[section.index("## 9. See an error") : section.index("## 10.")]
    assert "havre logs wine" in section
    assert "in the home" not in section


def test_the_doctor_asks_for_nothing_that_models_cannot_use() -> None:
    """There are no custom containers: nobody needs to install what would run them."""
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "custom containers" in told[told.index("## What it does not do yet") :]
    asked = Path(programs.__file__).parent.glob("*.py")
    assert not any("podman" in file.read_text(encoding="utf-8").lower() for file in asked)


def test_the_license_that_is_stated_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "[LICENSE](LICENSE)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_is_both_answered_and_absent() -> None:
    """The page of the API lists both from the code: one of them would be wrong."""
    answered = {
        route.path.split("/")[2]
        for router in ROUTERS
        if router is not absent.router
        for route in router.routes
        if isinstance(route, APIRoute) and route.path.count("/") > 1
    }
    assert answered & (absent.ARRAYS | absent.COLLECTIONS | absent.OF_LOGGING) == set()


NOT_YET = {
    "custom containers": ((*ENVIRONMENT, "environmentConfigurationType"), "OCIR_CONTAINER"),
    "autoscaling": ((*SCALING, "policyType"), "AUTOSCALING"),
    "model groups": ((CONFIGURATION, "deploymentType"), "MODEL_GROUP"),
}
"""What the README says is missing, and how a client would ask for it."""


@pytest.mark.parametrize("what", NOT_YET)
def test_what_the_readme_says_is_missing_is_refused_as_missing(what: str) -> None:
    told = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert what in told[told.index("## What it does not do yet") :]
    with pytest.raises(ValidationError, match="not available on this server yet"):
        CreateModelDeploymentDetails.model_validate(request_with(NOT_YET[what]))
