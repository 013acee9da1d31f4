"""The copies of one instance as processes: fork, watch, kill what hangs, fork again.

Everything here is at once and never waits; the keeper's loop calls it when something happened or
``next_wake`` has come.
"""

import os
import signal
import sys
import warnings
from time import monotonic_ns
from typing import NamedTuple

from havre_copy import memory, slots
from havre_copy.capture import Capturing
from havre_copy.deaths import (
    STAYS_UP_S,
    TOO_MANY_DEATHS,
    Limits,
    cause_of,
    deadline,
    pause_after,
)
from havre_copy.output import Marks
from havre_copy.recording import Recorder
from havre_copy.streams import flush_user_output

NEVER = 1 << 62


class Death(NamedTuple):
    """A copy that ended. ``was``: its slot's state then; ``overdue``: ended for taking too long."""

    number: int
    cause: str
    was: int
    overdue: bool
    code: int


class Copies:
    """``body(copies, number, channel)`` runs in each forked child and does not return.

    ``connections`` are given before the first fork.
    """

    def __init__(self, *, spec, journal, body):
        self.table = slots.Table(spec.copies)
        self.recorder = Recorder(self.table)
        self.capturing = Capturing(self.table)
        self.marks = Marks(spec.output, self.table)
        self.limits = Limits(spec)
        self.restarts = 0
        self.deaths_in_a_row = 0
        self.last_cause = ""
        self.ever_ready = False
        self.draining = False
        self.drained = False  # the queue is empty, and takes no more
        self.connections = None
        self._journal = journal
        self._body = body
        self._pids = {}
        self._due = {number: 0 for number in range(spec.copies)}
        self._sentenced = {}
        self._answered = 0
        self._last_death = 0
        self._memory_kills = memory.kills()

    @property
    def pids(self):
        return list(self._pids)

    @property
    def ready(self):
        return self.table.count(slots.IDLE, *slots.SERVING)

    @property
    def busy(self):
        return self.table.count(*slots.SERVING)

    def fork_due(self):
        """Fork every copy whose time has come; none once the queue is drained."""
        if self.drained:
            return
        now = monotonic_ns()
        self._forgive(now)
        for number, due in sorted(self._due.items()):
            if due <= now:
                self._fork(number)

    def reap(self):
        """Collect ended children, ours and such as user code left. Returns the Deaths of copies."""
        deaths = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return deaths
            if not pid:
                return deaths
            if pid in self._pids:
                deaths.append(self._bury(pid, status))

    def kill_overdue(self):
        """SIGKILL every copy past its limit; it is reaped, and forked again, like any other."""
        for pid, number in self._pids.items():
            if pid in self._sentenced:
                continue
            slot = self.table.slots[number]
            limit = deadline(slot.words, self.limits)
            if limit is not None and limit[0] <= monotonic_ns():
                self._sentenced[pid] = limit[1]
                os.kill(pid, signal.SIGKILL)

    def kill_all(self):
        """End all copies now and wait for it. Only for copies that are lost anyway."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
            number = self._pids.pop(pid)
            self.marks.bury(number)
            self.connections.bury(number, has_served=True)

    def drain(self):
        """The queue takes no more: copies end when it is empty. Those that still load end now,
        where others are ready; and where none stays up, or has ever been ready, all is over.
        """
        self.draining = True
        self.connections.drain()
        if self.ready:
            self._end_loading()
        elif not self.ever_ready or self.failing():
            self.dismiss()
        # Else they have died just now, told to leave as we were, perhaps: the next serve the rest.

    def dismiss(self):
        """Let all copies leave, and fork no more."""
        if not self.drained:
            self.drained = True
            self.connections.dismiss()
            self._end_loading()

    def _end_loading(self):
        for pid, number in self._pids.items():
            if self.table.slots[number].words[slots.STATE] == slots.LOADING:
                self._sentenced[pid] = "not needed any more"
                os.kill(pid, signal.SIGKILL)

    def next_wake(self):
        """When something may have to be done though nothing happens: monotonic ns."""
        now = monotonic_ns()
        times = [now + self.limits.least]
        if not self.drained:
            times.extend(self._due.values())
        for pid, number in self._pids.items():
            limit = deadline(self.table.slots[number].words, self.limits)
            if limit is not None and pid not in self._sentenced:
                times.append(limit[0])
        forgiven = self._last_death + int(STAYS_UP_S * 1e9)
        if self.deaths_in_a_row and forgiven > now:
            times.append(forgiven)
        looks_at = self.marks.next_wake()
        if looks_at is not None:
            times.append(looks_at)
        return min(times)

    @property
    def has_predicted(self):
        """Whether predict() has ever returned in a copy."""
        return self.table.total(slots.SPENT) > 0

    def failing(self):
        """Why no copy stays up, or ``""``."""
        if self.deaths_in_a_row <= TOO_MANY_DEATHS:
            return ""
        return "copies keep dying: the last was %s" % self.last_cause

    def _fork(self, number):
        slot = self.table.slots[number]
        slot.clear(0, slots.LOADING, monotonic_ns())
        self.marks.name(number)
        flush_user_output()
        channel = None
        try:
            with warnings.catch_warnings():
                # 3.12 warns of forking beside threads: a probe has shown that it works here.
                warnings.simplefilter("ignore")
                channel = self.connections.before_fork(number)
                pid = os.fork()
        except OSError as error:
            if channel is not None:
                channel.close()
                self.connections.bury(number, has_served=False)
            slot.clear(0, slots.EMPTY, 0)
            self._due[number] = monotonic_ns() + int(1e9)
            self._journal.say("cannot fork a copy: %s; trying again in a second" % error)
            return
        if not pid:
            try:
                slot.words[slots.PID] = os.getpid()
                self._body(self, number, channel)
            finally:
                sys.stdout = sys.stderr = None
                os._exit(70)
        channel.close()
        self._pids[pid] = number
        del self._due[number]

    def _bury(self, pid, status):
        number = self._pids.pop(pid)
        sentence = self._sentenced.pop(pid, "")
        slot = self.table.slots[number]
        was = slot.words[slots.STATE]
        request_id = slot.request_id.decode("ascii", "replace")
        self.marks.bury(number)
        slot.clear(0, slots.EMPTY, 0)
        in_hand = self.connections.bury(number, has_served=was != slots.LOADING)
        code = -1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        cause = sentence or cause_of(status, self._has_memory_ended())
        death = Death(number, cause, was, bool(sentence), code)
        if self.drained:
            return death
        now = monotonic_ns()
        self._forgive(now)
        self.restarts += 1
        self.deaths_in_a_row += 1
        self.last_cause = death.cause
        self._last_death = now
        if was in slots.SERVING:
            # Its requests: their clients get the load balancer's 500.
            slot.words[slots.FAILED] += max(1, in_hand)
        pause = pause_after(self.deaths_in_a_row)
        self._due[number] = now + int(pause * 1e9)
        verb = "ended" if sentence else "died"
        self._journal.say(
            "copy %d (pid %d) %s: %s; another follows%s%s"
            % (
                number,
                pid,
                verb,
                death.cause,
                " in %.2g s" % pause if pause else "",
                "; it served %d requests at once" % in_hand if in_hand > 1 else "",
            ),
            request_id if was in slots.SERVING else "",
        )
        return death

    def _has_memory_ended(self):
        """Whether the kernel has ended a process for it since this was asked last, if it tells."""
        before, self._memory_kills = self._memory_kills, memory.kills()
        if before is None or self._memory_kills is None:
            return None
        return self._memory_kills > before

    def _forgive(self, now):
        """A row of deaths ends with an answer, or when no copy has died for a while."""
        answered = self.table.total(slots.ANSWERED)
        lived = self.ready and now - self._last_death >= STAYS_UP_S * 1e9
        if answered != self._answered or lived:
            self.deaths_in_a_row = 0
        self._answered = answered
