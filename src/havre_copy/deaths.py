"""Why a copy ended, when it must be ended, and how soon another is forked. Pure."""

import os
import signal

from havre_copy import slots

FREE_DEATHS = 3  # in a row without a response: forked again at once
MAX_PAUSE_S = 5.0
TOO_MANY_DEATHS = 5
OUT_OF_MEMORY = "out of memory: the instance needed more than its shape has"
STABLE_AFTER_S = 10.0  # without a death: the next one is the first in a row
_IN_TIME_FOR_PREDICT = {
    slots.READING: "reading what the request's body says",
    slots.BUSY: "predict()",
    slots.WRITING: "predict() and sending its answer",
}


def pause_after(deaths):
    """Seconds before the next fork, after so many deaths in a row without a response."""
    if deaths <= FREE_DEATHS:
        return 0.0
    return min(MAX_PAUSE_S, 0.05 * 2 ** (deaths - FREE_DEATHS - 1))


def cause_of(status, ended_for_memory=None):
    """The end of a sentence for a status of ``waitpid``: ``exited with code 1``.

    ``ended_for_memory``: whether the kernel did it at the memory limit; None: unknown.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and ended_for_memory:
            return OUT_OF_MEMORY
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "signal %d" % number
        is_guess = number == signal.SIGKILL and ended_for_memory is None
        hint = ": probably out of memory" if is_guess else ""
        return "killed by %s%s" % (name, hint)
    return "exited with code %d" % os.WEXITSTATUS(status)


class TimeLimits:
    """How long a copy may take, in nanoseconds."""

    def __init__(self, spec):
        self.predict = int(spec.predict_timeout_s * 1e9)
        self.idle = int(spec.stream_idle_s * 1e9)
        self.total = int(spec.stream_total_s * 1e9)
        self.start = int(spec.start_timeout_s * 1e9)
        # A copy that is idle now cannot be overdue sooner: so long the keeper may sleep.
        self.min_ns = min(self.predict, self.idle, self.total, self.start)


def deadline(words, limits):
    """``(when, why)`` a copy must be killed, ``when`` in monotonic ns; None while it is idle."""
    state = words[slots.STATE]
    since = words[slots.SINCE]
    what = _IN_TIME_FOR_PREDICT.get(state)
    if what is not None:
        return since + limits.predict, "%s took over %g s" % (what, limits.predict / 1e9)
    if state == slots.STREAMING:
        pause = words[slots.ACTIVITY] + limits.idle
        end = since + limits.total
        if pause < end:
            return pause, "the stream paused for over %g s" % (limits.idle / 1e9)
        return end, "the stream took over %g s" % (limits.total / 1e9)
    if state == slots.LOADING:
        return since + limits.start, "score.py took over %g s to load" % (limits.start / 1e9)
    return None
