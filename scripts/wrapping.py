"""Lines of the pages end at 120 characters: paragraphs and list items that are longer are wrapped.

Tables, fenced blocks, comments, headings and items that are one link stay as they are, and so does
a word that is longer by itself, such as a URL. Code (`havre up`) is kept on one line.
"""

import re
import textwrap
from collections.abc import Iterator

WIDTH = 120
LONGEST_CODE = 60
"""Characters of code in a line that is not broken."""

_FENCE = re.compile(r"^ *```")
_ITEM = re.compile(r"^(?P<indent> *)(?P<mark>[-*]|\d+\.) +")
_ONE_LINK = re.compile(r" *(?:[-*]|\d+\.) +\[[^\]]+\]\([^)]+\)[^\[]{0,20}")
_CODE = re.compile(r"`[^`]+`")
_SPACE_IN_CODE = "\x00"


def wrapped(page: str) -> str:
    return "\n".join(_lines(page.splitlines())) + "\n"


def _lines(lines: list[str]) -> Iterator[str]:
    for is_text, part in _parts(lines):
        is_one_link = len(part) == 1 and _ONE_LINK.fullmatch(part[0])
        if is_text and not is_one_link and any(len(line) > WIDTH for line in part):
            yield from _wrapped(part)
        else:
            yield from part


def _parts(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """Paragraphs and list items (True) and all else (False), in order."""
    part: list[str] = []
    is_fenced = is_comment = False
    for line in lines:
        if _FENCE.match(line):
            is_fenced = not is_fenced
        if line.startswith("<!--"):
            is_comment = True
        is_text = not (is_fenced or is_comment or not line.strip() or line[:1] in "|#")
        is_text = is_text and not _FENCE.match(line)
        if part and (not is_text or _ITEM.match(line)):
            yield True, part
            part = []
        if is_text:
            part.append(line)
        else:
            yield False, [line]
        if "-->" in line:
            is_comment = False
    if part:
        yield True, part


def _wrapped(part: list[str]) -> list[str]:
    item = _ITEM.match(part[0])
    before = item[0] if item else part[0][: len(part[0]) - len(part[0].lstrip())]
    text = " ".join(line.strip() for line in part)
    if item:
        text = text.partition(" ")[2].lstrip()
    text = _CODE.sub(lambda code: _kept(code[0]), text)
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_SPACE_IN_CODE, " ") for line in lines]


def _kept(code: str) -> str:
    return code.replace(" ", _SPACE_IN_CODE) if len(code) <= LONGEST_CODE else code
