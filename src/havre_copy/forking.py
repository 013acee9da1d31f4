"""Whether copies may be forked from the keeper that holds the model: the rule, and its evidence.

A forked process has one thread. A library whose thread pool was alive in the parent waits in the
child for threads that are not there, for ever: OpenMP's does, once it has had more than one thread
(scikit-learn, XGBoost, LightGBM and PyTorch alike). A single thread after loading excludes that.
"""

import os
from typing import NamedTuple

FORKED = "forked"
PER_COPY = "per_copy"
SAMPLE_LIMIT_S = 10

# What a probe (a forked child that predicts on the artifact's sample) came to.
ANSWERED = "answered"
RAISED = "raised"
HUNG = "hung"
DIED = "died"


class Choice(NamedTuple):
    mode: str
    why: str


def choose(threads, probe):
    """How copies get the model. Pure.

    ``threads`` run in the keeper after loading; ``probe`` is one of the outcomes above, or None
    without a sample.
    """
    if probe == ANSWERED:
        return Choice(FORKED, "a forked probe answered test_input.json")
    if probe in (HUNG, DIED):
        what = (
            "did not answer test_input.json in %d s" % SAMPLE_LIMIT_S if probe == HUNG else "died"
        )
        return Choice(PER_COPY, "a forked probe %s" % what)
    doubt = " and no sample (test_input.json) proves that it forks well"
    if probe == RAISED:
        doubt = " and predict() raised on the sample (test_input.json), which proves nothing"
    if threads > 1:
        return Choice(PER_COPY, "loading left %d threads running%s" % (threads, doubt))
    return Choice(FORKED, "loading left a single thread")


def count_threads():
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


def end_openmp_pools():
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
        pass  # the count of threads decides
