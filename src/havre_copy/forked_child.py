"""What runs in a forked child of the keeper: a copy (worker process) that serves, or a process that
answers checks.
"""

import json
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, NamedTuple, Optional

from havre_copy import batch_proof, score_file, slots
from havre_copy.after_fork import reset_after_fork
from havre_copy.batching import Batching
from havre_copy.capture import SUFFIX, CaptureWriter
from havre_copy.causes import describe_whole
from havre_copy.connections import Connections
from havre_copy.encoding import Codec, fastest_codec
from havre_copy.faults import MAX_REASON_LENGTH, LoadFailed, full_traceback
from havre_copy.logger import Logger
from havre_copy.output import SharedOutput
from havre_copy.request_queue import NO_CLAIMS, READ_AT_ONCE
from havre_copy.score_file import Scorer
from havre_copy.serving import Copy
from havre_copy.spec import Spec
from havre_copy.streams import flush_user_output

FAILED = 3  # exit code: the instance cannot serve, or the copy
CANNOT_GO_ON = 1  # exit code: an error outside of any request, which is in the log


class ForkedChild(NamedTuple):
    """What a child needs. Never changed: the keeper replaces it when it knows more, and forks then.

    ``close_keepers()`` closes in the child what is the keeper's alone. ``scorer`` and ``codec`` are
    None where each copy loads its own. Only copies need ``connections``, and ``reports``: the pipe
    on which they report that they are ready, or why they cannot go on.
    """

    spec: Spec
    logger: Logger
    close_keepers: Callable[[], None]
    check_input: Optional[Callable[[Any], None]]
    batching: Batching
    scorer: Optional[Scorer] = None
    codec: Optional[Codec] = None
    connections: Optional[Connections] = None
    reports: int = -1

    def run_copy(self, copies, number, channel):
        """Serve as one of the Copies, and end this process: never returns.

        What keeps it from going on is in the log, and reported to the keeper.
        """
        code = CANNOT_GO_ON
        logger = self.logger.named("copy %d" % number)
        try:
            reset_after_fork(self.close_keepers)
            output = copies.marks.open(number, self.logger)
            logger = logger.named("copy %d" % number, output.descriptor)
            code = self._serve(copies, number, channel, output, logger)
        except LoadFailed as failure:
            code = FAILED
            self._report(number, failed=str(failure))
        except BaseException as error:
            _log_error(logger, error)
            self._report(number, died=describe_whole(error))
        finally:
            flush_user_output()
            sys.stdout = sys.stderr = None
            os._exit(code)

    def _serve(self, copies, number, channel, output, logger):
        """Load if need be, then answer until asked to stop; returns the exit code."""
        slot = copies.table.slots[number]
        scorer = self._loaded(logger)
        copy = self._copy(
            "%s/%d" % (self.spec.instance, number),
            slot=slot,
            claims=self.connections.claims(number),
            ring=copies.recorder.rings[number],
            capture=CaptureWriter(
                _capture_path(copies.marks.path(number)), copies.capture_control.memory
            ),
            output=output,
            scorer=scorer,
            logger=logger,
            deployment=self.spec.deployment,
        )
        queue = self.connections.queue_in_child(number, channel, logger)
        queue.exit_on_sigterm(
            is_predicting=lambda: slot.words[slots.STATE] in slots.PREDICTING,
            ask=lambda: self._report(number, asked=True),
        )
        # It is ready when nothing of ours is left to be done that could fail.
        slot.words[slots.STATE] = slots.IDLE
        self._report(number, ready=True)
        return copy.serve(queue)

    def run_probe(self, connections, slot):
        """Answer the one request on each connection."""
        with self._logging_errors():
            copy = self._copy_for_checks(slot)
            for connection in connections:
                copy.exchange(connection, connection.recv(READ_AT_ONCE))
                connection.close()

    def run_batch_proof(self, sample, connections, slot):
        """Report whether requests like the sample may be batched."""
        with self._logging_errors():
            copy = self._copy_for_checks(slot)
            codec = self.codec or fastest_codec()
            batch_proof.report(connections[0], sample, copy.call, codec)

    @contextmanager
    def _logging_errors(self):
        """Of a child that answers checks: whatever keeps it from going on is in the log."""
        try:
            yield
        except LoadFailed:
            pass  # logged where it was raised
        except BaseException as error:
            _log_error(self.logger.named("check"), error)

    def _copy_for_checks(self, slot):
        reset_after_fork(self.close_keepers)
        logger = self.logger.named("check")
        return self._copy(
            self.spec.instance + "/check",
            slot=slot,
            claims=NO_CLAIMS,
            ring=None,
            capture=None,
            output=SharedOutput(),
            scorer=self._loaded(logger),
            logger=logger,
            deployment="",
        )

    def _loaded(self, logger):
        """The model, which the child loads itself if the keeper has none."""
        if self.scorer is not None:
            return self.scorer
        try:
            return score_file.load(self.spec.artifact, timeout_s=self.spec.start_timeout_s)
        except LoadFailed as failure:
            details = full_traceback(failure.__cause__) if failure.__cause__ else ""
            logger.log("loading failed: %s" % failure, details=details)
            raise

    def _copy(self, name, **own):
        return Copy(
            name="%s/%s" % (name, self.spec.revision),
            codec=self.codec or fastest_codec(),
            max_body=self.spec.max_body,
            batching=self.batching,
            artifact=self.spec.artifact,
            check_input=self.check_input,
            **own,
        )

    def _report(self, number, **report):
        """Report to the keeper that a copy is ``ready``, that it was ``asked`` to end in the midst
        of a request, or why it ``failed`` to load, or ``died``.
        """
        for what, value in report.items():
            report[what] = value if value is True else value[:MAX_REASON_LENGTH]
        try:
            os.write(self.reports, json.dumps(dict(report, copy=number)).encode("ascii") + b"\n")
        except OSError:
            pass  # the keeper is dead: continue to serve


def _log_error(logger, error):
    traceback = full_traceback(error, with_ours=True)
    logger.log("cannot go on: %s" % describe_whole(error), details=traceback)


def _capture_path(path):
    """The file of captured requests beside the one with what the copy prints."""
    return path and os.path.splitext(path)[0] + SUFFIX
