"""The one table of contents: README.md and docs/index.md get theirs from here, in this order.

A page is called by its title, the first heading in it, wherever it is listed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

CONTENTS: Mapping[str, tuple[str, ...]] = {
    "Learn": ("tutorial/first-model",),
    "Do": (
        "howto/environments",
        "howto/roll-out-safely",
        "howto/binary-bodies",
        "howto/batches",
        "howto/logs",
        "howto/metrics",
        "howto/capture",
        "howto/oci-clients",
        "howto/postgresql",
        "howto/run-as-a-service",
        "howto/upgrade",
    ),
    "Look up": (
        "reference/commands",
        "reference/settings",
        "reference/home",
        "reference/score-py",
        "reference/errors",
        "reference/api",
        "reference/tags",
        "reference/log-queries",
        "reference/resource-queries",
        "reference/metrics",
        "reference/promises",
        "reference/glossary",
    ),
    "Understand": (
        "explanation/architecture",
        "explanation/copies",
        "explanation/reliability",
        "explanation/soak",
        "explanation/telemetry",
        "explanation/isolation",
        "explanation/performance",
        "explanation/performance-notes",
    ),
}


def title(page: Path) -> str:
    """Raises StopIteration if the page has no heading."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return next(line[2:].strip() for line in lines if line.startswith("# "))


def decisions() -> list[Path]:
    return sorted((DOCS / "decisions").glob("*.md"))


def file_of_decision(number: int, its_title: str) -> str:
    words = re.sub(r"[^\w\- ]", "", its_title.lower()).replace(" ", "-")
    return f"{number:04}-{words}.md"


def in_readme() -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for section, names in CONTENTS.items():
        links = [f"[{title(DOCS / f'{name}.md')}](docs/{name}.md)" for name in names]
        if section == "Understand":
            links.append("[Decisions](docs/index.md#decisions)")
        yield f"| {section} | {' · '.join(links)} |"


def in_index() -> Iterator[str]:
    for section, names in CONTENTS.items():
        yield f"## {section}"
        yield ""
        yield from (f"- [{title(DOCS / f'{name}.md')}]({name}.md)" for name in names)
        yield ""
    yield "## Decisions"
    yield ""
    yield "Half a page each: what, why, what was rejected."
    yield ""
    for page in decisions():
        replaced = " (superseded)" if "**Superseded**" in page.read_text(encoding="utf-8") else ""
        yield f"{int(page.name[:4])}. [{title(page)}](decisions/{page.name}){replaced}"
