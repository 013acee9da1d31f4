"""Whether copies may be forked from the keeper that holds the model: the rule, and its evidence.

A forked process has one thread. A library whose thread pool was alive in the parent waits in the
child forever for threads that are not there: OpenMP does, once it has had more than one thread (in
scikit-learn, XGBoost, LightGBM and PyTorch alike). A single thread after loading excludes that,
except for libraries that are known to keep more than threads. A request that a forked child has
answered shows that this request works; a larger one may use the threads.
"""

import os
from time import monotonic, sleep
from typing import NamedTuple, Optional, Tuple

from havre_copy.threads import count_threads, end_idle_threads, lost_in_forks

FORKED = "forked"
PER_COPY = "per_copy"
_MAX_NAMED, _MAX_NAME_LENGTH = 5, 60
SAMPLE_LIMIT_S = 10

# Outcomes of a probe: a forked child that predicts on the artifact's sample.
ANSWERED = "answered"
RAISED = "raised"
HUNG = "hung"
DIED = "died"


class Evidence(NamedTuple):
    """The keeper after loading, when its OpenMP pools and idle threads have been ended.

    ``threads`` counts those that a fork would need, ``python_threads`` names those that score.py
    started; ``lost`` is a sentence on what a library has that no fork will have. ``sockets`` counts
    connections; ``probe`` is one of the outcomes above, or None.
    """

    threads: int
    python_threads: Tuple[str, ...] = ()
    lost: str = ""
    sockets: int = 0
    probe: Optional[str] = None

    @property
    def is_doubtful(self):
        """Whether there are threads that a forked copy may need."""
        return self.threads > 1


class ForkChoice(NamedTuple):
    mode: str
    why: str


def rule_out(evidence):
    """The Choice where no probe can make forking safe, or None. Pure."""
    if evidence.python_threads:
        started = _count(len(evidence.python_threads), "thread")
        names = ", ".join(name[:_MAX_NAME_LENGTH] for name in evidence.python_threads[:_MAX_NAMED])
        if len(evidence.python_threads) > _MAX_NAMED:
            names += " and others"
        return ForkChoice(PER_COPY, "score.py started %s, which no fork has: %s" % (started, names))
    if evidence.sockets:
        # Two copies on one connection would read each other's responses.
        opened = _count(evidence.sockets, "network connection")
        return ForkChoice(PER_COPY, "score.py left %s open, which copies must not share" % opened)
    if evidence.lost:
        return ForkChoice(PER_COPY, evidence.lost)
    return None


def choose(evidence):
    """How copies get the model. Pure."""
    ruled_out = rule_out(evidence)
    if ruled_out:
        return ruled_out
    probe = evidence.probe
    if probe == ANSWERED:
        return ForkChoice(FORKED, "a forked probe answered the artifact's sample request")
    if probe == HUNG:
        why = "a forked probe did not answer the sample request in %d s" % SAMPLE_LIMIT_S
        return ForkChoice(PER_COPY, why)
    if probe == DIED:
        return ForkChoice(PER_COPY, "a forked probe died on the artifact's sample request")
    if evidence.is_doubtful:
        doubt = "no sample request (test_input.json) proves that it forks well"
        if probe == RAISED:
            doubt = "predict() raised on the sample request, which proves nothing"
        left = "loading left %d threads running and %s" % (evidence.threads, doubt)
        return ForkChoice(PER_COPY, left)
    return ForkChoice(FORKED, "loading left a single thread")


def open_sockets():
    """Descriptors of this process that are sockets."""
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + name).startswith("socket:"):
                descriptors.add(int(name))
        except OSError:
            pass  # the folder's own descriptor
    return descriptors


def gather_evidence(sockets_before):
    """The Evidence of this process, without a probe. ``sockets_before`` loading are our own."""
    python_threads, ignored = end_idle_threads()
    if count_threads() > 1 + ignored:
        _end_openmp_pools(1 + ignored)
    return Evidence(
        threads=count_threads() - ignored,
        python_threads=python_threads,
        lost=lost_in_forks(),
        sockets=len(open_sockets() - sockets_before),
    )


def _count(number, noun):
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")


def _end_openmp_pools(others):
    """Have OpenMP end its idle threads here, so that a forked child starts its own. Best effort.

    ``others``: how many threads are not OpenMP's. Calls ``omp_pause_resource_all(omp_pause_hard)``
    of GCC's runtime (9 and newer); each library may bring its own runtime. Not called where only
    a single thread runs.
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
    deadline = monotonic() + 2
    while count_threads() > others and monotonic() < deadline:
        sleep(0.005)  # a thread is counted until the kernel has removed it
