"""Why an instance has ended, in words."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from havre import foreign
from havre.domain import crash_report
from havre.domain.reported import text
from havre.engines import keeper_protocol
from havre.supervisor.protocol import ProcessStatus

LOG_TAIL_BYTES = 64 * 1024
LONGEST_LINE = 500


def how_it_ended(process: ProcessStatus) -> str:
    """The end of a sentence about it."""
    code = process.exit_code
    if code is None:
        return "ended while nobody watched"
    if code == -signal.SIGKILL and process.out_of_memory:
        return "was ended by the system: out of memory, it needs more than its shape has"
    if code == -signal.SIGKILL and process.orphans:
        return "was killed by signal 9"  # the system would have ended a copy first
    if code == -signal.SIGKILL:
        return "was killed by signal 9: probably out of memory"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with code {code}"


def last_log_line(log: Path, *, below: Path) -> str:
    """The last line that the model itself wrote: the keeper's own do not show why it ended. Of a
    crash, which ends in lists of frames and modules, the line that names it.
    """
    try:
        with open(foreign.open_file(log, below=below), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return text(last_line_of(lines), LONGEST_LINE)


def last_line_of(lines: Sequence[str]) -> str:
    """The same of lines."""
    theirs = [line for line in lines if not keeper_protocol.OWN_LINE.match(line)]
    stripped = (line.strip() for line in reversed(theirs))
    return crash_report.summarize(theirs) or next(filter(None, stripped), "")
