"""Whether each copy must load its own model after all, because forked copies fail.

It is decided at most once: from then on each copy loads its own model, and no fork is to blame.
"""

import os
from signal import SIGKILL

from havre_copy import memory, slots

MAX_STUCK = 2  # copies that took too long, or asked for their end, before forking gets the blame


def reconsider(death, *, is_doubtful, has_predicted, stuck, has_room):
    """Why each copy must load its own model after this Death of a forked one, or ``""``. Pure.

    ``has_predicted``: predict() has returned in a forked copy; ``stuck``: in how many copies it has
    recently taken too long, or asked for the process's end; ``has_room()``: whether there is memory
    for a model in each.
    """
    # SIGKILL comes from elsewhere: `kill`, or what kills processes when memory is short.
    is_its_own = death.asked or death.signal not in (0, SIGKILL)
    is_overdue = death.overdue and death.state == slots.BUSY
    if death.asked and not has_predicted:
        return death.cause
    if is_doubtful and death.state in slots.PREDICTING and (death.overdue or is_its_own):
        return "loading left threads running, which a forked copy may have missed: %s" % death.cause
    if not is_overdue and not death.asked:
        return ""
    if not has_predicted:
        return "no forked copy has ever answered, and %s" % death.cause
    if death.deadlocked:
        return "a forked copy waited for a lock that no thread was there to release"
    if stuck >= MAX_STUCK and has_room():
        return "in %d forked copies %s" % (stuck, death.cause)
    return ""


def has_room(copies):
    """Whether there is memory for one model per copy, where this process already holds one."""
    left = memory.left()
    return left is None or memory.resident(os.getpid()) * (copies - 1) <= left
