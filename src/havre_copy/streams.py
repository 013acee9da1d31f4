"""``sys.stdout`` and ``sys.stderr`` as user code finds them: a line at a time, and never an error.

A line goes out in one write as soon as it ends, so that a kill loses none and threads do not write
into each other's lines. When the disk is full a print is lost, and counted: it must not fail the
prediction that printed.
"""

import errno
import io
import sys

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_ours = []


class Forgiving(io.FileIO):
    """A file that takes everything. ``lost``: bytes that the disk had no room for."""

    def __init__(self, descriptor):
        io.FileIO.__init__(self, descriptor, "w", closefd=False)
        self.lost = 0

    def write(self, data):
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        done = 0
        try:
            while done < size:
                rest = memoryview(data).cast("B")[done:] if done else data
                written = io.FileIO.write(self, rest)
                if written is None:
                    break  # somebody has made it one that does not wait
                done += written
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise
        self.lost += size - done
        return size


def take_over():
    """Put such streams in the place of Python's, before any code of the user's has seen those."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            file = Forgiving(descriptor)
        except OSError:
            continue  # closed by who started us
        file.name = "<%s>" % name
        # Whatever the locale says.
        stream = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        _ours.append(file)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def lost():
    """Bytes of prints that were lost so far."""
    return sum(file.lost for file in _ours)


def flush_user_output():
    """Write out what user code has printed so far, so that a fork does not print it twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # theirs, and it may be anything
            pass
