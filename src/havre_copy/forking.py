"""Whether copies may be forked from the keeper that holds the model: the rule, and its evidence.

A forked process has one thread. A library whose thread pool was alive in the parent waits in the
child for threads that are not there, for ever: OpenMP's does, once it has had more than one thread
(scikit-learn, XGBoost, LightGBM and PyTorch alike). A single thread after loading excludes that.
"""

import os
import sys
from time import monotonic, sleep
from typing import NamedTuple, Optional

FORKED = "forked"
PER_COPY = "per_copy"
SAMPLE_LIMIT_S = 10

# What a probe (a forked child that predicts on the artifact's sample) came to.
ANSWERED = "answered"
RAISED = "raised"
HUNG = "hung"
DIED = "died"


class Evidence(NamedTuple):
    """What the keeper looks like after loading, its OpenMP pools ended.

    ``threads`` counts all of them, ``python_threads`` those that score.py started, ``sockets`` the
    connections it opened; ``probe`` is one of the outcomes above, or None without a sample.
    """

    threads: int
    python_threads: int = 0
    sockets: int = 0
    probe: Optional[str] = None


class Choice(NamedTuple):
    mode: str
    why: str


def choose(evidence):
    """How copies get the model. Pure."""
    threads, python_threads, sockets, probe = evidence
    if python_threads:
        return Choice(
            PER_COPY, "score.py started %s, which no fork has" % _many(python_threads, "thread")
        )
    if sockets:
        # Two copies on one connection would read each other's answers.
        opened = _many(sockets, "network connection")
        return Choice(PER_COPY, "score.py left %s open, which copies must not share" % opened)
    if probe == ANSWERED:
        return Choice(FORKED, "a forked probe answered the artifact's sample request")
    if probe == HUNG:
        why = "a forked probe did not answer the sample request in %d s" % SAMPLE_LIMIT_S
        return Choice(PER_COPY, why)
    if probe == DIED:
        return Choice(PER_COPY, "a forked probe died on the artifact's sample request")
    if threads > 1:
        doubt = "no sample request (test_input.json) proves that it forks well"
        if probe == RAISED:
            doubt = "predict() raised on the sample request, which proves nothing"
        return Choice(PER_COPY, "loading left %d threads running and %s" % (threads, doubt))
    return Choice(FORKED, "loading left a single thread")


def open_sockets():
    """Descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                found.add(int(name))
        except OSError:
            pass  # the folder's own descriptor
    return found


def look(sockets_before):
    """The Evidence this process gives, all but the probe's. ``sockets_before`` loading are ours."""
    if _count_threads() > 1:
        _end_openmp_pools()
    threading = sys.modules.get("threading")
    return Evidence(
        threads=_count_threads(),
        python_threads=len(threading.enumerate()) - 1 if threading else 0,
        sockets=len(open_sockets() - sockets_before),
    )


def _many(number, noun):
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def _count_threads():
    return len(os.listdir("/proc/self/task"))


def _end_openmp_pools():
    """Let OpenMP end its idle threads here, so that a forked child starts its own. Best effort.

    ``omp_pause_resource_all(omp_pause_hard)`` of GCC's runtime (9 and newer); each library may
    bring a runtime of its own. Never called where a single thread runs already.
    """
    try:
        import ctypes

        with open("/proc/self/maps") as maps:
            paths = {line.split(None, 5)[-1].strip() for line in maps if "/libgomp" in line}
        for path in paths:
            pause = getattr(ctypes.CDLL(path), "omp_pause_resource_all", None)
            if pause is not None:
                pause(2)
    except (ImportError, OSError, AttributeError):
        return  # the count of threads decides
    give_up = monotonic() + 2
    while _count_threads() > 1 and monotonic() < give_up:
        sleep(0.005)  # a thread is counted until the kernel has buried it
