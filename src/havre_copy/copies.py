"""The copies (worker processes) of one instance: fork, watch, kill what hangs, fork again.

Nothing here blocks; the keeper's loop calls it when something has happened or ``next_wake`` has
come.
"""

import os
import signal
import warnings
from time import monotonic_ns
from typing import NamedTuple

from havre_copy import crash, memory, slots
from havre_copy.capture import CaptureControl
from havre_copy.deaths import (
    STABLE_AFTER_S,
    TOO_MANY_DEATHS,
    TimeLimits,
    cause_of,
    deadline,
    pause_after,
)
from havre_copy.output import Marks
from havre_copy.recording import RequestRecorder
from havre_copy.streams import flush_user_output
from havre_copy.threads import is_deadlocked

FINISH_WITHIN_NS = 10_000_000_000  # current requests, when every copy is to load its own model
STUCK_FORGOTTEN_NS = 3600 * 1_000_000_000
# Whoever ends an instance signals its processes one by one: the keeper may be this much later.
SENT_TO_ALL_WITHIN_NS = 500_000_000
ASKED_FOR_ITS_END = "predict(), or a library that it uses, asked for its process's end (SIGTERM)"


class Death(NamedTuple):
    """A copy that ended. ``state``: its slot's then."""

    cause: str
    state: int
    overdue: bool = False  # ended for taking too long
    deadlocked: bool = False  # its only thread waited for a lock then
    asked: bool = False  # its own code has asked for its end by a signal
    signal: int = 0  # that killed it; 0: it exited, or we have killed it


class Copies:
    """Forks none before ``begin``."""

    def __init__(self, *, spec, logger):
        self.table = slots.SlotTable(spec.copies)
        self.recorder = RequestRecorder(self.table)
        self.capture_control = CaptureControl(self.table)
        self.marks = Marks(spec.output, self.table)
        self.limits = TimeLimits(spec)
        self.restarts = 0
        self.deaths_in_a_row = 0
        self.last_cause = ""
        self.ever_ready = False
        self.draining = False
        self.drained = False  # the queue is empty, and takes no more
        self.retiring = False  # those that run are the last ones
        self._stuck_at = []
        self._retired_at = 0
        self.connections = None
        self._artifact = spec.artifact
        self._logger = logger
        self._run = None
        self._pids = {}
        self._due = {number: 0 for number in range(spec.copies)}
        self._killed_for = {}
        self._deadlocked = set()
        self._asked_to_end = {}
        self._last_reports = {}
        self._responses = 0
        self._last_death = 0
        self._memory_kills = memory.kills()

    def begin(self, connections, run):
        """``run(copies, number, channel)`` is called in each forked child and does not return."""
        self.connections = connections
        self._run = run

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
        """Fork every copy that is due, unless it would have nothing to do."""
        if self.drained or self.retiring:
            return
        now = monotonic_ns()
        self._reset_backoff(now)
        for number, due in sorted(self._due.items()):
            if due <= now:
                self._fork(number)

    def reap(self):
        """Collect ended children, also those of user code. Returns the Deaths of copies."""
        deaths = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return deaths
            if not pid:
                return deaths
            if pid in self._pids:
                deaths.append(self._on_death(pid, status))

    def note_last_report(self, number, reported):
        """Keep what a copy has reported of itself before it ended."""
        if number in self._pids.values():
            self._last_reports[number] = reported

    def note_asked_to_end(self, number):
        """A signal has asked a copy to end, in the midst of a request."""
        for pid in self._pids:
            if self._pids[pid] == number:
                self._asked_to_end.setdefault(pid, monotonic_ns() + SENT_TO_ALL_WITHIN_NS)

    def kill_overdue(self):
        """SIGKILL every copy past its limit; it is reaped, and forked again, like any other."""
        for pid, number in self._pids.items():
            if pid in self._killed_for:
                continue
            slot = self.table.slots[number]
            limit = deadline(slot.words, self.limits)
            if limit is not None and limit[0] <= monotonic_ns():
                if is_deadlocked(pid):
                    self._deadlocked.add(pid)
                self._kill(pid, limit[1])

    def kill_asked_to_end(self):
        """SIGKILL every copy that was asked to end while the keeper was not: by its own code.

        Call it when all signals to the keeper have been handled.
        """
        if self.draining or self.retiring:
            self._asked_to_end.clear()
        for pid, judged_at in self._asked_to_end.items():
            if judged_at <= monotonic_ns() and pid not in self._killed_for:
                self._kill(pid, ASKED_FOR_ITS_END)

    def retire(self):
        """Have all copies exit, after their current request; no others follow."""
        self.retiring = True
        self._retired_at = monotonic_ns() + FINISH_WITHIN_NS
        self.connections.close_after_response()
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)
        self._end_loading()

    @property
    def stuck(self):
        """In how many predict() has recently taken too long, or asked for the process's end."""
        since = monotonic_ns() - STUCK_FORGOTTEN_NS
        self._stuck_at = [at for at in self._stuck_at if at > since]
        return len(self._stuck_at)

    @property
    def have_retired(self):
        """Whether all copies have exited since ``retire``, or have had the time to."""
        return self.retiring and (not self._pids or self._retired_at <= monotonic_ns())

    def _kill(self, pid, why):
        self._killed_for[pid] = why
        os.kill(pid, signal.SIGKILL)

    def kill_all(self):
        """End all copies now and wait for it. Only for copies that are lost anyway."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
            number = self._pids.pop(pid)
            self.marks.on_death(number)
            self.connections.on_death(number, has_served=True)

    def drain(self):
        """Accept no more: copies exit when the queue is empty. Those that still load are killed now
        if others are ready; and if none stays up, or has ever been ready, all end now.
        """
        self.draining = True
        self.retiring = False
        self.connections.drain()
        if self.ready:
            self._end_loading()
        elif not self.ever_ready or self.failing():
            self.end_all()
        # Else they have died just now, perhaps of the signal that we got: the next serve the rest.

    def end_all(self):
        """Have all copies exit, and fork no more."""
        if not self.drained:
            self.drained = True
            self.connections.end_copies()
            self._end_loading()

    def _end_loading(self):
        for pid, number in self._pids.items():
            if self.table.slots[number].words[slots.STATE] == slots.LOADING:
                self._kill(pid, "not needed any more")

    def next_wake(self):
        """When something may have to be done even if nothing happens: monotonic ns."""
        now = monotonic_ns()
        times = [now + self.limits.min_ns]
        if not self.drained:
            times.extend(self._due.values())
        for pid, number in self._pids.items():
            limit = deadline(self.table.slots[number].words, self.limits)
            if limit is not None and pid not in self._killed_for:
                times.append(limit[0])
        times.extend(at for pid, at in self._asked_to_end.items() if pid not in self._killed_for)
        if self.retiring:
            times.append(self._retired_at)
        resets_at = self._last_death + int(STABLE_AFTER_S * 1e9)
        if self.deaths_in_a_row and resets_at > now:
            times.append(resets_at)
        marks_due = self.marks.next_wake()
        if marks_due is not None:
            times.append(marks_due)
        return min(times)

    @property
    def has_predicted(self):
        """Whether predict() has ever returned in a copy."""
        return self.table.total(slots.PREDICT_NS) > 0

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
                # 3.12 warns of forking with threads: a probe has shown that it works here.
                warnings.simplefilter("ignore")
                channel = self.connections.before_fork(number)
                pid = os.fork()
        except OSError as error:
            if channel is not None:
                channel.close()
                self.connections.on_death(number, has_served=False)
            slot.clear(0, slots.EMPTY, 0)
            self._due[number] = monotonic_ns() + int(1e9)
            self._logger.log("cannot fork a copy: %s; trying again in a second" % error)
            return
        if not pid:
            try:
                slot.words[slots.PID] = os.getpid()
                self._run(self, number, channel)
            finally:
                os._exit(70)
        channel.close()
        self._pids[pid] = number
        del self._due[number]

    def _on_death(self, pid, status):
        number = self._pids.pop(pid)
        killed_for = self._killed_for.pop(pid, "")
        slot = self.table.slots[number]
        state = slot.words[slots.STATE]
        request_id = slot.request_id.decode("ascii", "replace")
        self.marks.on_death(number)
        slot.clear(0, slots.EMPTY, 0)
        in_progress = self.connections.on_death(number, has_served=state != slots.LOADING)
        cause = killed_for or cause_of(status, self._is_out_of_memory())
        reported = self._last_reports.pop(number, "")
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in crash.SIGNALS:
            reported = crash.describe_file(self.marks.path(number), self._artifact) or reported
        if reported and not killed_for:
            cause += ": " + reported
        asked = killed_for == ASKED_FOR_ITS_END
        self._asked_to_end.pop(pid, None)
        death = Death(
            cause,
            state,
            overdue=bool(killed_for) and not asked,
            deadlocked=pid in self._deadlocked,
            asked=asked,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) and not killed_for else 0,
        )
        self._deadlocked.discard(pid)
        if death.asked or (death.overdue and state == slots.BUSY):
            self._stuck_at.append(monotonic_ns())
        if self.drained:
            return death
        if self.retiring and state not in slots.SERVING:
            self._due[number] = 0
            return death
        now = monotonic_ns()
        self._reset_backoff(now)
        self.restarts += 1
        self.deaths_in_a_row += 1
        self.last_cause = death.cause
        self._last_death = now
        if state in slots.SERVING:
            # Its requests: their clients get the load balancer's 500.
            slot.words[slots.FAILED] += max(1, in_progress)
        pause = pause_after(self.deaths_in_a_row)
        self._due[number] = now + int(pause * 1e9)
        verb = "ended" if killed_for else "died"
        self._logger.log(
            "copy %d (pid %d) %s: %s; another follows%s%s"
            % (
                number,
                pid,
                verb,
                death.cause,
                " in %.2g s" % pause if pause else "",
                "; it served %d requests at once" % in_progress if in_progress > 1 else "",
            ),
            request_id if state in slots.SERVING else "",
        )
        return death

    def _is_out_of_memory(self):
        """Whether the kernel has killed a process for memory since the last call; None: unknown."""
        before, self._memory_kills = self._memory_kills, memory.kills()
        if before is None or self._memory_kills is None:
            return None
        return self._memory_kills > before

    def _reset_backoff(self, now):
        """Deaths count as in a row until a response is sent, or no copy has died for a while."""
        responses = self.table.total(slots.RESPONSES)
        lived = self.ready and now - self._last_death >= STABLE_AFTER_S * 1e9
        if responses != self._responses or lived:
            self.deaths_in_a_row = 0
        self._responses = responses
