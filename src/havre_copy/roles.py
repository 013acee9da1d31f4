"""What a forked child of the keeper becomes: a copy that serves, or one that answers a check."""

import json
import os

from havre_copy import childhood, proof, scoring, slots
from havre_copy.capture import SUFFIX, Capture
from havre_copy.encoding import fastest_codec
from havre_copy.fair_queue import NO_QUEUE, READ_AT_ONCE
from havre_copy.faults import LoadFailed, full_traceback
from havre_copy.output import Shared
from havre_copy.serving import Copy, become

FAILED = 3  # exit code: the instance cannot serve, or the copy
LONGEST_REASON = 600  # as JSON it fits the pipe in one piece


class Roles:
    """The keeper sets what it finds out meanwhile; a child has what was set when it was forked.

    ``close_keepers()`` closes in the child what is the keeper's alone. ``scorer`` and ``codec`` are
    None where each copy loads its own; ``connections`` and ``tell``, the pipe that takes a copy's
    word that it is ready, are there before the first copy is.
    """

    def __init__(self, *, spec, journal, close_keepers, batching):
        self.scorer = None
        self.codec = None  # chosen after score.py: its own modules come before the environment's
        self.batching = batching
        self.connections = None
        self.tell = None
        self._spec = spec
        self._journal = journal
        self._close_keepers = close_keepers

    def be_copy(self, copies, number, channel):
        """Serve as one of the Copies. Does not return."""
        childhood.leave_home(self._close_keepers)
        output = copies.marks.open(number, self._journal)
        journal = self._journal.named("copy %d" % number, output.descriptor)
        slot = copies.table.slots[number]
        try:
            scorer = self._loaded(journal)
        except LoadFailed as failure:
            self._send_news(str(failure))
            os._exit(FAILED)
        copy = self._copy(
            "%s/%d" % (self._spec.instance, number),
            slot=slot,
            hand=self.connections.hand(number),
            ring=copies.recorder.rings[number],
            capture=Capture(_beside(copies.marks.path(number)), copies.capturing.memory),
            output=output,
            scorer=scorer,
            journal=journal,
        )
        queue = self.connections.queue_in_child(number, channel, journal)
        slot.words[slots.STATE] = slots.IDLE
        self._send_news(None)
        become(copy, queue)

    def be_probe(self, connections, slot):
        """Answer the one request on each connection."""
        copy = self._copy_for_checks(slot)
        for connection in connections:
            copy.exchange(connection, connection.recv(READ_AT_ONCE))
            connection.close()

    def be_proof(self, sample, connections, slot):
        """Tell whether requests like the sample may be batched."""
        copy = self._copy_for_checks(slot)
        proof.tell(connections[0], sample, copy.call, self.codec or fastest_codec())

    def _copy_for_checks(self, slot):
        childhood.leave_home(self._close_keepers)
        journal = self._journal.named("check")
        return self._copy(
            self._spec.instance + "/check",
            slot=slot,
            hand=NO_QUEUE,
            ring=None,
            capture=None,
            output=Shared(),
            scorer=self._loaded(journal),
            journal=journal,
        )

    def _loaded(self, journal):
        """The model, which the child loads itself if the keeper has none."""
        if self.scorer is not None:
            return self.scorer
        try:
            return scoring.load(self._spec.artifact, timeout_s=self._spec.start_timeout_s)
        except LoadFailed as failure:
            details = full_traceback(failure.__cause__) if failure.__cause__ else ""
            journal.say("loading failed: %s" % failure, details=details)
            raise

    def _copy(self, name, **own):
        return Copy(
            name="%s/%s" % (name, self._spec.revision),
            codec=self.codec or fastest_codec(),
            max_body=self._spec.max_body,
            batching=self.batching,
            **own,
        )

    def _send_news(self, failed):
        """Tell the keeper that this copy is ready, or why not; then the pipe is of no more use."""
        reason = failed and failed[:LONGEST_REASON]
        try:
            os.write(self.tell, json.dumps({"failed": reason}).encode("ascii") + b"\n")
        except OSError:
            pass  # the keeper is dead: serve on
        os.close(self.tell)


def _beside(path):
    """The file of captured requests beside the one of what the copy prints."""
    return path and os.path.splitext(path)[0] + SUFFIX
