"""A keeper's status: on its control socket, and in a file for when it cannot respond.

While the model loads the keeper's only thread is in user code: only the file has its status then.
"""

import json
import os
from time import monotonic

from havre_copy import memory, slots
from havre_copy.forking import PER_COPY
from havre_copy.spec import PROTOCOL

STARTING = "starting"
READY = "ready"
FAILED = "failed"
DRAINING = "draining"

_MEASURE_EVERY_S = 30


class Status:
    """Phase, reason and notes of one keeper; the numbers are read from its copies on request."""

    def __init__(self, spec, logger):
        self.phase = STARTING
        self.reason = ""
        self.mode = ""
        self.notes = []
        self._spec = spec
        self._logger = logger
        self._measured_at = None
        self._memory = (0, 0)

    def report(self, copies):
        """The status as a dict for JSON; ``copies`` is None before there are any."""
        table = copies.table if copies is not None else None
        shared, per_copy = self._memory
        return {
            "protocol": PROTOCOL,
            "instance": self._spec.instance,
            "deployment": self._spec.deployment,
            "revision": self._spec.revision,
            "pid": os.getpid(),
            "phase": self.phase,
            "reason": self.reason,
            "copies": self._spec.copies,
            "ready": copies.ready if copies is not None else 0,
            "busy": copies.busy if copies is not None else 0,
            "streaming": table.count(slots.STREAMING) if table is not None else 0,
            "restarts": copies.restarts if copies is not None else 0,
            "answered": table.total(slots.RESPONSES) if table is not None else 0,
            "failed": table.total(slots.FAILED) if table is not None else 0,
            "in_hand_s": table.request_ages() if table is not None else [],
            "latency": {
                "counts": table.latency() if table is not None else [0] * slots.BUCKETS,
                "total_s": table.total(slots.PREDICT_NS) / 1e9 if table is not None else 0.0,
            },
            "recording": copies.recorder.limit if copies is not None else 0,
            "capturing": {
                "percent": copies.capture_control.percent if copies is not None else 0,
                "redact": copies.capture_control.redact if copies is not None else [],
            },
            "mode": self.mode,
            "notes": list(self.notes),
            "shared_bytes": shared,
            "copy_bytes": per_copy,
        }

    def note(self, text, copies=None):
        """Add a sentence for the deployment's owner; it goes to the log and the file too."""
        if text not in self.notes:
            self.notes.append(text)
            self._logger.log(text)
            self.write(copies)

    def enter(self, phase, copies=None, reason=""):
        """Change phase or reason: in the file and, if it matters, in the log."""
        if (phase, reason) == (self.phase, self.reason):
            return
        if phase != self.phase:
            self._logger.log("%s%s" % (phase, ": " + reason if reason else ""))
        elif reason:
            self._logger.log(reason)
        self.phase = phase
        self.reason = reason
        self.write(copies)

    def measure(self, copies):
        """Measure the memory of the keeper and its copies, at most every half minute."""
        now = monotonic()
        if self._measured_at is not None and now - self._measured_at < _MEASURE_EVERY_S:
            return
        self._measured_at = now
        measure = memory.resident if self.mode == PER_COPY else memory.private
        sizes = [size for size in map(measure, copies.pids) if size]
        per_copy = sum(sizes) // len(sizes) if sizes else 0
        self._memory = (memory.resident(os.getpid()), per_copy)

    def memory_note(self):
        shared, per_copy = self._memory
        if self.mode == PER_COPY:
            return "memory: each copy uses %.0f MB of its own" % (per_copy / 1e6)
        return "memory: %.0f MB shared by all copies, %.1f MB more for each" % (
            shared / 1e6,
            per_copy / 1e6,
        )

    def write(self, copies=None):
        """Replace the state file. A full disk is logged, and serving goes on."""
        path = self._spec.state_file
        temporary = "%s.%d.new" % (path, os.getpid())
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(self.report(copies), file)
            os.replace(temporary, path)
        except OSError as error:
            self._logger.log("cannot write %s: %s" % (path, error))
