"""The keeper of one instance: loads the model once, forks copies (worker processes) that serve it,
watches them, ends them.

Started with the instance's listening socket as descriptor 3 and the control socket as 4; standard
output and error are the predict log. Four steps: load, choose, fork, watch. It never calls
``predict()`` itself: what a prediction leaves behind in it could break every later fork.

When a fork is not safe, it re-executes itself (same pid, same sockets) in the mode in which it
loads nothing and each copy loads its own model.
"""

import faulthandler
import gc
import json
import os
import selectors
import signal
import socket
import sys
from functools import partial
from time import monotonic

from havre_copy import (
    batch_proof,
    batching,
    doubts,
    forking,
    input_schema,
    score_file,
    slots,
    status,
)
from havre_copy.checks import Checks
from havre_copy.connections import Connections
from havre_copy.control import Control
from havre_copy.copies import Copies
from havre_copy.deaths import OUT_OF_MEMORY
from havre_copy.encoding import fastest_codec
from havre_copy.faults import MAX_REASON_LENGTH, LoadFailed, full_traceback
from havre_copy.forked_child import FAILED, ForkedChild
from havre_copy.logger import Logger
from havre_copy.operations import Operations
from havre_copy.probation import Probation
from havre_copy.probes import Probe, ask, try_sample
from havre_copy.samples import read_sample
from havre_copy.spec import read_spec
from havre_copy.streams import flush_user_output, replace_standard_streams

LISTENER = 3
CONTROL = 4
MAX_REPORT_BYTES = 4096  # a copy's reports are shorter


def main(launcher, arguments):
    """Run a keeper; returns an exit code if it cannot start. ``arguments``: SPEC [CARRIED]."""
    replace_standard_streams()
    faulthandler.enable()  # it prints where a fatal signal came
    logger = Logger("keeper")
    try:
        spec = read_spec(arguments[0])
    except (IndexError, OSError, ValueError) as error:
        logger.log("cannot start: %s" % error)
        return 2
    carried = json.loads(arguments[1]) if len(arguments) > 1 else None
    Keeper(spec, logger, launcher, carried).run()
    return 0


class Keeper:
    """One instance. ``carried`` is the state that survives a re-exec."""

    def __init__(self, spec, logger, launcher, carried):
        self._spec = spec
        self._logger = logger
        self._launcher = launcher
        # For a re-exec: user code may change both.
        self._first_environment = dict(os.environ)
        self._first_folder = os.getcwd()
        self._status = status.Status(spec, logger)
        self._stopping = False
        self._failure = ""
        self._is_doubtful = False  # a forked copy may need a thread that it does not have
        self._reexec_reason = ""
        self._has_reported_memory = False
        self._partial_report = b""
        self._checks = None
        self._control = None
        for descriptor in (LISTENER, CONTROL):
            os.set_inheritable(descriptor, False)
        self._child = ForkedChild(
            spec=spec,
            logger=logger,
            close_keepers=self._close_in_child,
            check_input=input_schema.checker(spec.artifact, os.environ),
            batching=batching.requested(os.environ),
        )
        self._copies = Copies(spec=spec, logger=logger)
        self._per_copy = carried is not None
        self._probation = Probation(
            spec.copies, spec.min_ready_s, is_over=carried is not None and carried["was_ready"]
        )
        self._connections = None
        self._carried_connections = carried["connections"] if carried is not None else ()
        if carried is not None:
            self._status.mode = forking.PER_COPY
            self._status.notes = carried["notes"]
            self._copies.restarts = carried["restarts"]
            self._copies.recorder.retain(carried["recording"])
            self._copies.capture_control.set(*carried["capturing"])

    def run(self):
        self._status.write()
        note = input_schema.note(self._child.check_input, self._first_environment)
        if note:
            self._status.note(note)
        try:
            if self._per_copy:
                self._status.note("each copy loads its own model: its memory is not shared")
            else:
                self._load()
                self._choose()
        except LoadFailed as failure:
            self._fail(str(failure), failure.__cause__)
        if self._child.batching.size > 1:
            self._decide_batching()
        gc.collect()
        gc.freeze()  # the collector then leaves the shared pages alone
        self._watch()

    def _load(self):
        began = monotonic()
        self._sockets_before = forking.open_sockets()
        self._logger.log("loading %s" % self._spec.artifact)
        scorer = score_file.load(self._spec.artifact, timeout_s=self._spec.start_timeout_s)
        self._logger.log("score.py loaded in %.2f s" % (monotonic() - began))
        # The codec after score.py: the artifact's own modules come before the environment's.
        self._child = self._child._replace(scorer=scorer, codec=fastest_codec())
        for note in scorer.notes:
            self._status.note(note)

    def _choose(self):
        evidence = forking.gather_evidence(self._sockets_before)
        sample = self._sample()
        if sample is not None and forking.rule_out(evidence) is None:
            outcome = try_sample(sample, self._child.run_probe)
            evidence = evidence._replace(probe=outcome)
        choice = forking.choose(evidence)
        if choice.mode == forking.PER_COPY:
            self._reexec(choice.why)
        self._is_doubtful = evidence.is_doubtful
        self._status.mode = choice.mode
        self._status.note("copies are forked and share the model: %s" % choice.why)

    def _decide_batching(self):
        """Batch only if a forked child has shown on the sample that it is safe."""
        limit_s = forking.SAMPLE_LIMIT_S + (self._spec.start_timeout_s if self._per_copy else 0)
        sample = self._sample()
        prove = partial(self._child.run_batch_proof, sample)
        outcome = sample and ask(sample, prove, limit_s=limit_s)
        if self._is_doubtful and (outcome is None or not outcome[0]):
            self._reexec("a forked child did not answer the sample request several times over")
        decided, note = batch_proof.decide(self._child.batching, sample, outcome)
        self._child = self._child._replace(batching=decided)
        self._status.note(note)

    def _reexec(self, why):
        """Restart as a keeper without a model. Does not return."""
        self._logger.log("restarting, each copy loads its own model: %s" % why)
        self._end_children()
        carried = {
            "notes": self._status.notes + ["copies are not forked from a loaded keeper: %s" % why],
            "restarts": self._copies.restarts,
            "recording": self._copies.recorder.limit,
            "capturing": self._copies.capture_control.policy,
            "was_ready": self._probation.is_over,
            "connections": self._connections.carry() if self._connections is not None else [],
        }
        flush_user_output()
        for descriptor in (LISTENER, CONTROL):
            os.set_inheritable(descriptor, True)
        for descriptor in (1, 2):
            os.dup2(self._logger.descriptor, descriptor)
        os.chdir(self._first_folder)
        signal.set_wakeup_fd(-1)
        command = [sys.executable, self._launcher, self._spec.path, json.dumps(carried)]
        os.execve(sys.executable, command, self._first_environment)

    def _watch(self):
        """Sleep until something happens, handle it, sleep again."""
        self._selector = selectors.PollSelector()
        self._wake, self._signals = _pipe()
        self._reports, reports = _pipe()
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.signal(signal.SIGTERM, _wake_up)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._signals)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_signal)
        self._selector.register(self._reports, selectors.EVENT_READ, self._on_reports)
        self._checks = Checks(
            selector=self._selector,
            fork=lambda requests, limit_s: Probe(requests, self._child.run_probe, limit_s=limit_s),
            limit_s=self._spec.predict_timeout_s,
            load_s=self._spec.start_timeout_s if self._per_copy else 0,
        )
        self._connections = Connections(
            listener=socket.socket(fileno=LISTENER),
            selector=self._selector,
            copies=self._spec.copies,
            logger=self._logger,
            max_requests=self._child.batching.size,
            carried=self._carried_connections,
        )
        self._child = self._child._replace(connections=self._connections, reports=reports)
        self._copies.begin(self._connections, self._child.run_copy)
        operations = Operations(
            spec=self._spec, status=self._status, copies=self._copies, checks=self._checks
        )
        self._control = Control(
            listener=socket.socket(fileno=CONTROL),
            selector=self._selector,
            handle=operations.handle,
        )
        while True:
            self._copies.kill_overdue()
            self._copies.marks.tick()
            self._handle_deaths()
            if self._failure:
                self._fail(self._failure)
            if self._copies.have_retired:
                self._reexec(self._reexec_reason)
            self._copies.fork_due()
            self._connections.tick()
            if self._connections.is_drained:
                self._copies.end_all()
            self._update_phase()
            if self._stopping and self._copies.drained and not self._copies.pids:
                self._end_children()
                self._logger.log("stopped")
                os._exit(0)  # without waiting for threads and exit hooks of user code
            self._control.drop_stalled()
            for key, events in self._selector.select(self._until_next_wake()):
                key.data(events)
            self._copies.kill_asked_to_end()
            self._checks.end_late()

    def _until_next_wake(self):
        times = [
            self._copies.next_wake() / 1e9,
            self._connections.next_wake(),
            self._control.next_wake(),
            self._checks.next_wake(),
            self._probation.next_wake(),
        ]
        return max(0.0, min(time for time in times if time is not None) - monotonic())

    def _handle_deaths(self):
        self._on_reports(selectors.EVENT_READ)  # a copy reports before it ends
        for death in self._copies.reap():
            if death.cause == OUT_OF_MEMORY:
                self._status.note(
                    "out of memory: a copy was ended; choose a larger shape or fewer copies",
                    self._copies,
                )
            if self._status.mode == forking.FORKED and not self._copies.draining:
                self._reconsider(death)
            served = death.state in slots.SERVING
            if self._copies.failing() and not self._copies.has_predicted and not served:
                self._failure = self._copies.failing()
            if death.overdue and death.state == slots.LOADING and not self._copies.ever_ready:
                if not self._copies.draining:
                    self._failure = death.cause

    def _reconsider(self, death):
        """Whether each copy must load its own model after all. Healthy copies may finish."""
        why = doubts.reconsider(
            death,
            is_doubtful=self._is_doubtful,
            has_predicted=self._copies.has_predicted,
            stuck=self._copies.stuck,
            has_room=partial(doubts.has_room, self._spec.copies),
        )
        if why and not self._copies.retiring:
            self._reexec_reason = why
            self._logger.log("each copy is to load its own model: %s" % why)
            self._copies.retire()

    def _update_phase(self):
        copies = self._copies
        if copies.draining:
            return
        failing = copies.failing()
        self._probation.observe(up=copies.ready, deaths=copies.restarts, now=monotonic())
        if not self._probation.is_over:
            died = copies.last_cause and "a copy has died: %s" % copies.last_cause
            self._status.enter(status.STARTING, copies, failing or died)
        elif copies.ready:
            self._status.enter(status.READY, copies, failing)
            if copies.ready == self._spec.copies and not self._has_reported_memory:
                self._has_reported_memory = True
                self._status.measure(copies)
                self._status.note(self._status.memory_note(), copies)
        elif failing or self._per_copy:
            # A forked copy that died is back in milliseconds: that is no change of phase.
            self._status.enter(status.STARTING, copies, failing)

    def _drain(self):
        if self._copies.draining:
            return
        self._copies.drain()
        self._status.enter(status.DRAINING, self._copies)

    def _on_signal(self, _events):
        if signal.SIGTERM in _read_all(self._wake):
            self._stopping = True
            self._drain()

    def _on_reports(self, _events):
        self._partial_report += _read_all(self._reports)
        *lines, self._partial_report = self._partial_report.split(b"\n")
        self._partial_report = self._partial_report[-MAX_REPORT_BYTES:]
        for line in lines:
            try:
                self._handle_report(**json.loads(line.decode("ascii")))
            except (TypeError, ValueError):
                pass  # no report of ours

    def _handle_report(self, copy, ready=False, asked=False, failed="", died=""):
        """A report of copy number ``copy``: it is ready, or was asked to end while it had a
        request, or it cannot load, or cannot go on.
        """
        if ready:
            self._copies.ever_ready = True
        elif asked:
            self._copies.note_asked_to_end(copy)
        elif failed and not self._copies.ever_ready:
            self._failure = str(failed)
        else:
            self._copies.note_last_report(copy, str(failed or died))

    def _sample(self):
        return read_sample(self._spec.artifact, self._spec.max_body)

    def _fail(self, reason, cause=None):
        """Report why the instance cannot serve, end everything. Does not return."""
        if cause is not None:
            self._logger.log("loading failed", details=full_traceback(cause))
        self._end_children()
        self._status.enter(status.FAILED, self._copies, reason[:MAX_REASON_LENGTH])
        flush_user_output()
        os._exit(FAILED)

    def _end_children(self):
        if self._checks is not None:
            self._checks.kill()
        self._copies.kill_all()

    def _close_in_child(self):
        if self._control is None:
            os.close(CONTROL)
            return
        self._connections.close_in_child()
        self._control.close()
        for descriptor in (self._wake, self._signals, self._reports):
            os.close(descriptor)
        self._checks.close()


def _wake_up(_signum, _frame):
    """Python writes the number to the wake-up pipe; the loop does the rest."""


def _pipe():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _read_all(descriptor):
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""
