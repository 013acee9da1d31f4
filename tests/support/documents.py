"""The documentation as data: its pages, their fenced blocks, their links and headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

FOLLOWED = [
    ROOT / "README.md",
    *sorted(DOCS.glob("tutorial/*.md")),
    *sorted(DOCS.glob("howto/*.md")),
]
"""Pages that a reader follows: their blocks are run, in order."""

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``reason`` is why it is not run, empty if nothing says so."""

    page: Path
    line: int
    language: str
    text: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), ROOT / "bench" / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        number += 1
        if fence is None:
            continue
        indent = len(fence["indent"])
        above = _NOT_RUN.search(lines[number - 2]) if number > 1 else None
        first = number
        while lines[number].strip() != "```":
            number += 1
        text = "\n".join(line[indent:] for line in lines[first:number]) + "\n"
        found.append(Block(page, first, fence["language"], text, above["reason"] if above else ""))
        number += 1
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks and comments."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"<!--.*?-->", "", text, flags=re.S)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def labelled_links(page: Path) -> list[tuple[str, str]]:
    """What each link says, and where it leads."""
    found = re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose(page))
    return [(" ".join(label.split()), target) for label, target in found]


def anchors(page: Path) -> set[str]:
    """What a link may name after ``#``, as the usual renderers make it of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {anchor_of(heading) for heading in headings}


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
