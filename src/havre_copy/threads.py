"""What is known of libraries' threads: which ones a fork can do without, which ones it cannot."""

import os
import re
import sys

# The entry points of Python threads that only wait, and the method that ends them. Threads without
# one are not counted: their library starts another in a fork. Tested by `make forks`.
_IDLE = {
    ("tqdm._monitor", "TMonitor"): "exit",  # the next progress bar starts another
    ("opentelemetry.sdk._shared_internal", "BatchProcessor.worker"): None,
    ("opentelemetry.sdk.metrics._internal.export", "PeriodicExportingMetricReader._ticker"): None,
}
# By names of threads (regular expressions), and of loaded files: what a fork lacks, even where a
# small request works without it.
_LOST_THREADS = {
    r"polars-\d": "Polars keeps a pool of threads, which no fork has",
    "tf_": "TensorFlow's runtime, which JAX uses too, keeps pools of threads, which no fork has",
}
_LOST_FILES = {"/omppool.": "Numba has begun to use OpenMP, which ends every fork that uses it"}


def end_idle_threads():
    """End threads that may be ended. Returns the names of the other Python threads, and how many
    threads need not be counted.
    """
    threading = sys.modules.get("threading")
    names = []
    ignored = 0
    for thread in threading.enumerate() if threading else ():
        if thread is threading.main_thread():
            continue
        entry = _entry_point(thread)
        if entry not in _IDLE:
            names.append("%s of %s" % (thread.name, entry[0]) if entry[0] else thread.name)
        elif _IDLE[entry]:
            getattr(thread, _IDLE[entry])()
        else:
            ignored += 1
    return tuple(sorted(names)), ignored


def count_threads():
    """All threads of this process."""
    return len(os.listdir("/proc/self/task"))


def lost_in_forks():
    """Which library of this process would not work in a fork, as a sentence, or ``""``."""
    names = [_read("/proc/self/task/%s/comm" % thread) for thread in os.listdir("/proc/self/task")]
    for pattern, sentence in _LOST_THREADS.items():
        if any(re.match(pattern, name) for name in names):
            return sentence
    maps = _read("/proc/self/maps")
    for part, sentence in _LOST_FILES.items():
        if part in maps:
            return sentence
    return ""


def is_deadlocked(pid):
    """Whether a process waits for a lock that no other thread of its own could release."""
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return False
    return len(threads) == 1 and _read("/proc/%d/wchan" % pid).startswith("futex")


def _entry_point(thread):
    """Module and name of the thread's class, or of its target if the class is threading's own."""
    made_by = type(thread)
    if made_by.__module__ == "threading":
        made_by = getattr(thread, "_target", None)
    return getattr(made_by, "__module__", None), getattr(made_by, "__qualname__", "")


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
