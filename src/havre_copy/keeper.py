"""The keeper of one instance: loads the model once, forks copies, watches them, ends them.

Started with the instance's listening socket as descriptor 3 and the control socket as 4, standard
output and error being the predict log. Four steps: load, choose, fork, watch. It never calls
``predict()`` itself: what a prediction leaves behind in it could break every later fork.

When a fork is not safe, it starts itself anew (same pid, same sockets) in the mode in which it
loads nothing and each copy loads its own.
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
from functools import partial
from time import monotonic

from havre_copy import batching, forking, proof, scoring, slots, status
from havre_copy.checks import Checks
from havre_copy.connections import Connections
from havre_copy.control import Control
from havre_copy.copies import Copies
from havre_copy.deaths import OUT_OF_MEMORY
from havre_copy.encoding import fastest_codec
from havre_copy.faults import LoadFailed, full_traceback
from havre_copy.journal import Journal
from havre_copy.probes import Probe, ask, try_sample
from havre_copy.roles import FAILED, LONGEST_REASON, Roles
from havre_copy.samples import read_sample
from havre_copy.spec import read_spec
from havre_copy.streams import flush_user_output, take_over

LISTENER = 3
CONTROL = 4
OPS = "status, check, sample, record, recorded, capture"


def main(launcher, arguments):
    """Run a keeper; returns an exit code if it cannot begin. ``arguments``: SPEC [CARRIED]."""
    take_over()
    journal = Journal("keeper")
    try:
        spec = read_spec(arguments[0])
    except (IndexError, OSError, ValueError) as error:
        journal.say("cannot start: %s" % error)
        return 2
    carried = json.loads(arguments[1]) if len(arguments) > 1 else None
    Keeper(spec, journal, launcher, carried).run()
    return 0


class Keeper:
    """One instance. ``carried`` is what its former self leaves it when it starts anew."""

    def __init__(self, spec, journal, launcher, carried):
        self._spec = spec
        self._journal = journal
        self._launcher = launcher
        # What user code changes of these must not reach a keeper that starts anew.
        self._first_environment = dict(os.environ)
        self._first_folder = os.getcwd()
        self._status = status.Status(spec, journal)
        self._stopping = False
        self._failure = ""
        self._is_proven = False  # a forked child has answered the sample
        self._has_told_memory = False
        self._unread_news = b""
        self._checks = None
        self._control = None
        for descriptor in (LISTENER, CONTROL):
            os.set_inheritable(descriptor, False)
        self._roles = Roles(
            spec=spec,
            journal=journal,
            close_keepers=self._close_in_child,
            batching=batching.wanted(os.environ),
        )
        self._copies = Copies(spec=spec, journal=journal, body=self._roles.be_copy)
        self._per_copy = carried is not None
        self._connections = None
        self._carried_connections = carried["connections"] if carried is not None else ()
        if carried is not None:
            self._status.mode = forking.PER_COPY
            self._status.notes = carried["notes"]
            self._copies.restarts = carried["restarts"]
            self._copies.recorder.keep(carried["recording"])
            self._copies.capturing.set(*carried["capturing"])

    def run(self):
        self._status.write()
        try:
            if self._per_copy:
                self._status.note("each copy loads its own model: its memory is not shared")
            else:
                self._load()
                self._choose()
        except LoadFailed as failure:
            self._fail(str(failure), failure.__cause__)
        if self._roles.batching.size > 1:
            self._settle_batching()
        gc.collect()
        gc.freeze()  # the collector then leaves the shared pages alone
        self._watch()

    def _load(self):
        began = monotonic()
        self._sockets_before = forking.open_sockets()
        self._journal.say("loading %s" % self._spec.artifact)
        self._roles.scorer = scoring.load(self._spec.artifact, timeout_s=self._spec.start_timeout_s)
        self._journal.say("score.py loaded in %.2f s" % (monotonic() - began))
        self._roles.codec = fastest_codec()
        for note in self._roles.scorer.notes:
            self._status.note(note)

    def _choose(self):
        evidence = forking.look(self._sockets_before)
        sample = self._sample()
        if sample is not None:
            outcome = try_sample(sample, self._roles.be_probe)
            evidence = evidence._replace(probe=outcome)
        choice = forking.choose(evidence)
        if choice.mode == forking.PER_COPY:
            self._start_anew(choice.why)
        self._is_proven = evidence.probe == forking.ANSWERED
        self._status.mode = choice.mode
        self._status.note("copies are forked and share the model: %s" % choice.why)

    def _settle_batching(self):
        """Batch only what a forked child has proved on the sample; say what came of it."""
        limit_s = forking.SAMPLE_LIMIT_S + (self._spec.start_timeout_s if self._per_copy else 0)
        sample = self._sample()
        told = sample and ask(sample, partial(self._roles.be_proof, sample), limit_s=limit_s)
        self._roles.batching, note = proof.settle(self._roles.batching, sample, told)
        self._status.note(note)

    def _start_anew(self, why):
        """Become a keeper without a model. Does not return."""
        self._journal.say("starting anew, each copy loads its own model: %s" % why)
        self._end_children()
        carried = {
            "notes": self._status.notes + ["copies are not forked from a loaded keeper: %s" % why],
            "restarts": self._copies.restarts,
            "recording": self._copies.recorder.most,
            "capturing": [self._copies.capturing.percent, self._copies.capturing.redact],
            "connections": self._connections.carry() if self._connections is not None else [],
        }
        flush_user_output()
        for descriptor in (LISTENER, CONTROL):
            os.set_inheritable(descriptor, True)
        for descriptor in (1, 2):
            os.dup2(self._journal.descriptor, descriptor)
        os.chdir(self._first_folder)
        signal.set_wakeup_fd(-1)
        command = [sys.executable, self._launcher, self._spec.path, json.dumps(carried)]
        os.execve(sys.executable, command, self._first_environment)

    def _watch(self):
        """Sleep until something happens, see to it, sleep again."""
        self._selector = selectors.PollSelector()
        self._wake, self._signals = _pipe()
        self._news, self._roles.tell = _pipe()
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, _note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._signals)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_signal)
        self._selector.register(self._news, selectors.EVENT_READ, self._on_news)
        self._checks = Checks(
            selector=self._selector,
            fork=lambda requests, limit_s: Probe(requests, self._roles.be_probe, limit_s=limit_s),
            limit_s=self._spec.predict_timeout_s,
            load_s=self._spec.start_timeout_s if self._per_copy else 0,
        )
        self._connections = Connections(
            listener=socket.socket(fileno=LISTENER),
            selector=self._selector,
            copies=self._spec.copies,
            journal=self._journal,
            most=self._roles.batching.size,
            carried=self._carried_connections,
        )
        self._copies.connections = self._roles.connections = self._connections
        self._control = Control(
            listener=socket.socket(fileno=CONTROL), selector=self._selector, handle=self._handle
        )
        while True:
            self._copies.kill_overdue()
            self._copies.marks.see_to()
            self._see_deaths()
            if self._failure:
                self._fail(self._failure)
            self._copies.fork_due()
            self._connections.see_to()
            if self._connections.is_drained:
                self._copies.dismiss()
            self._settle_phase()
            if self._stopping and self._copies.drained and not self._copies.pids:
                self._end_children()
                self._journal.say("stopped")
                os._exit(0)  # user code may have left threads or exit hooks that wait: not asked
            self._control.drop_stalled()
            for key, events in self._selector.select(self._until_next_wake()):
                key.data(events)
            self._checks.end_late()

    def _until_next_wake(self):
        times = [
            self._copies.next_wake() / 1e9,
            self._connections.next_wake(),
            self._control.next_wake(),
            self._checks.next_wake(),
        ]
        return max(0.0, min(time for time in times if time is not None) - monotonic())

    def _see_deaths(self):
        for death in self._copies.reap():
            if death.cause == OUT_OF_MEMORY:
                self._status.note(
                    "out of memory: a copy was ended; choose a larger shape or fewer copies",
                    self._copies,
                )
            stuck = death.overdue and death.was == slots.BUSY and not self._copies.draining
            if stuck and self._status.mode == forking.FORKED and not self._copies.has_predicted:
                if not self._is_proven:
                    self._start_anew("no forked copy has ever answered, and %s" % death.cause)
            served = death.was in slots.SERVING
            if self._copies.failing() and not self._copies.has_predicted and not served:
                self._failure = self._copies.failing()
            if death.overdue and death.was == slots.LOADING and not self._copies.ever_ready:
                if not self._copies.draining:
                    self._failure = death.cause

    def _settle_phase(self):
        copies = self._copies
        if copies.draining:
            return
        failing = copies.failing()
        if copies.ready:
            self._status.enter(status.READY, copies, failing)
            if copies.ready == self._spec.copies and not self._has_told_memory:
                self._has_told_memory = True
                self._status.measure(copies)
                self._status.note(self._status.memory_note(), copies)
        elif failing or self._per_copy or not copies.ever_ready:
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

    def _on_news(self, _events):
        self._unread_news += _read_all(self._news)
        *lines, self._unread_news = self._unread_news.split(b"\n")
        for line in lines:
            reason = json.loads(line.decode("ascii"))["failed"]
            if reason is None:
                self._copies.ever_ready = True
            elif not self._copies.ever_ready:
                self._failure = reason

    def _handle(self, request, reply):
        """One request of the control socket."""
        op = request.get("op")
        if op == "status":
            self._status.measure(self._copies)
            reply(self._status.report(self._copies))
        elif op == "check":
            self._checks.begin(request, reply)
        elif op == "sample":
            sample = self._sample()
            reply({"sample": sample and sample.told()})
        elif op == "record":
            self._record(request, reply)
        elif op == "capture":
            self._capture(request, reply)
        elif op == "recorded":
            reply(self._copies.recorder.page(request.get("before")))
        else:
            reply({"error": "op must be one of %s, not %r" % (OPS, op)})

    def _sample(self):
        return read_sample(self._spec.artifact, self._spec.max_body)

    def _record(self, request, reply):
        most = request.get("most")
        if not isinstance(most, int) or not 0 <= most < 1 << 32:
            reply({"error": "record needs most: how many requests are to be kept, 0 for none"})
            return
        self._copies.recorder.keep(most)
        reply(self._status.report(self._copies))

    def _capture(self, request, reply):
        try:
            self._copies.capturing.set(request.get("percent"), request.get("redact", []))
        except ValueError as error:
            reply({"error": "capture: %s" % error})
            return
        reply(self._status.report(self._copies))

    def _fail(self, reason, cause=None):
        """Say why the instance cannot serve, end everything. Does not return."""
        if cause is not None:
            self._journal.say("loading failed", details=full_traceback(cause))
        self._end_children()
        self._status.enter(status.FAILED, self._copies, reason[:LONGEST_REASON])
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
        for descriptor in (self._wake, self._signals, self._news):
            os.close(descriptor)
        self._checks.close()


def _note(_signum, _frame):
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
