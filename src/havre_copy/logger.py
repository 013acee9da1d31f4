"""Our own lines in the predict log: time (UTC), the process, the request if there is one, a text.

Each is written by one ``write`` to a descriptor of our own, so that neither user code that closes
or replaces ``sys.stdout`` nor a kill can lose or split a line.
"""

import fcntl
import os
from time import gmtime, strftime, time

FIRST_OWN_DESCRIPTOR = 10


class Logger:
    """Appends lines to the log that standard error was at the start."""

    def __init__(self, process, descriptor=None):
        if descriptor is None:
            descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_DESCRIPTOR)
        self.descriptor = descriptor
        self._process = process

    def named(self, process, descriptor=None):
        """A Logger for another process, to the same file or to a ``descriptor``."""
        return Logger(process, self.descriptor if descriptor is None else descriptor)

    def log(self, text, request_id="", details=""):
        """One line; ``details`` (a traceback) follow it as they are. Never raises."""
        now = time()
        stamp = "%s.%03dZ" % (strftime("%Y-%m-%dT%H:%M:%S", gmtime(now)), int(now * 1000) % 1000)
        subject = "request %s: " % request_id if request_id else ""
        line = "%s [%s] %s%s\n" % (stamp, self._process, subject, " ".join(text.split()))
        if details:
            line += details if details.endswith("\n") else details + "\n"
        try:
            os.write(self.descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not stop a prediction
