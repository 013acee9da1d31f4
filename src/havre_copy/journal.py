"""Our lines in the predict log: one line each, UTC, who speaks, which request.

Written to a descriptor of our own with one ``write`` each, so that neither a user who closes or
replaces ``sys.stdout`` nor a kill can lose or split a line.
"""

import fcntl
import os
import sys
from time import gmtime, strftime, time

FIRST_OWN_DESCRIPTOR = 10


class Journal:
    """Appends lines to the log that standard error was at the start."""

    def __init__(self, who, descriptor=None):
        if descriptor is None:
            descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_DESCRIPTOR)
        self.descriptor = descriptor
        self._who = who

    def named(self, who):
        """The same log, spoken by someone else."""
        return Journal(who, self.descriptor)

    def say(self, text, request_id="", details=""):
        """One line; ``details`` (a traceback) follow it as they are. Never raises."""
        now = time()
        stamp = "%s.%03dZ" % (strftime("%Y-%m-%dT%H:%M:%S", gmtime(now)), int(now * 1000) % 1000)
        subject = "request %s: " % request_id if request_id else ""
        line = "%s [%s] %s%s\n" % (stamp, self._who, subject, " ".join(text.split()))
        if details:
            line += details if details.endswith("\n") else details + "\n"
        try:
            os.write(self.descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not stop a prediction


def flush_at_each_line():
    """Let user prints reach the log at each line's end, whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        except (AttributeError, ValueError, OSError):
            pass  # closed, or replaced: theirs


def flush_user_output():
    """Write out what user code has printed so far, so that a fork does not print it twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # theirs, and it may be anything
            pass
