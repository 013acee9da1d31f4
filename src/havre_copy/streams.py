"""``sys.stdout`` and ``sys.stderr`` as user code finds them: a line at a time, and never an error.

Each line is written at once when it ends, by one write, so that a kill loses none and threads do
not write into each other's lines. When the disk is full a print is lost, and counted: it must not
fail the prediction that printed.
"""

import errno
import io
import sys

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_streams = []


class LossyFile(io.FileIO):
    """A file that takes everything. ``lost_bytes``: bytes that the disk had no room for."""

    def __init__(self, descriptor):
        io.FileIO.__init__(self, descriptor, "w", closefd=False)
        self.lost_bytes = 0

    def write(self, data):
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        done = 0
        try:
            while done < size:
                rest = memoryview(data).cast("B")[done:] if done else data
                written = io.FileIO.write(self, rest)
                if written is None:
                    break  # user code has made it non-blocking
                done += written
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise
        self.lost_bytes += size - done
        return size


def replace_standard_streams():
    """Replace Python's own streams, before any user code has seen them."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            file = LossyFile(descriptor)
        except OSError:
            continue  # closed by who started us
        file.name = "<%s>" % name
        # Whatever the locale says.
        stream = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        _streams.append(file)
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def lost_bytes():
    """How many bytes of prints have been lost so far."""
    return sum(file.lost_bytes for file in _streams)


def flush_user_output():
    """Write out what user code has printed so far, so that a fork does not print it twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the stream may be any object of user code
            pass
