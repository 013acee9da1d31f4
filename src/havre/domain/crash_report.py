"""What CPython's faulthandler prints when a signal ends the interpreter, and its summary. Pure."""

import re
from collections.abc import Sequence

FIRST_WORDS = "Fatal Python error:"
_CURRENT = re.compile(r"(Current thread|Stack) .*\(most recent call first\):")
_FRAME = re.compile(r'  File "([^"]+)", line (\d+)(?: in (.+))?')
_OTHER_LINES = (
    "Current thread",
    "Thread 0x",
    "Stack (most recent",
    "Extension modules",
    "<no Python frame>",
)


def summarize(lines: Sequence[str]) -> str:
    """``Fatal Python error: Segmentation fault at score.py line 5 in load_model``: the crash report
    that the lines end with, in one line; empty if they end with none.

    The frame named is the artifact's, if it has one.
    """
    starts = [number for number, line in enumerate(lines) if line.startswith(FIRST_WORDS)]
    if not starts:
        return ""
    first, *rest = lines[starts[-1] :]
    if not all(map(is_part, rest)):
        return ""
    current = next((number for number, line in enumerate(rest) if _CURRENT.match(line)), len(rest))
    frames = []
    for line in rest[current + 1 :]:
        if not (frame := _FRAME.match(line)):
            break
        frames.append(frame.groups())
    if not frames:
        return first.strip()
    of_artifact = next((frame for frame in frames if frame[0].endswith("/score.py")), frames[0])
    name, line, function = of_artifact
    return f"{first.strip()} at {name.rpartition('/')[2]} line {line} in {function}"


def is_part(line: str) -> bool:
    """Whether a line can belong to a report that began before it."""
    return not line or line[0].isspace() or line.startswith(_OTHER_LINES)
