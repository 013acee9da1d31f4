"""Shared memory: one slot per copy, written by the copy, read by the keeper.

Each field is one aligned 8-byte word, stored whole, so a reader never sees half of one. A copy that
hangs in C or is killed leaves its slot as it was: that is how the keeper knows what it was doing.
"""

import mmap
from bisect import bisect_right
from time import monotonic_ns

PID, STATE, SINCE, ACTIVITY = range(4)
ANSWERED = 4  # answers sent
FAILED = 5  # those with a 500, and requests that died with their copy
KEEP = 6  # what is kept of requests, 0: nothing. RECORDED: in memory; the bits above it: captured
RECORDED = 1  # written by the keeper, as those above it: which way to capture, see capture.py
WRITTEN, OLDEST = 7, 8  # of its ring of records, in bytes since its first: see recording.py
TOOK = 9  # ns that the last predict() took, whether it returned or raised
SPENT = 10  # ns in calls of predict() that returned, for each request that one answered
LATENCY = 11  # first of a word per bucket: how many requests' calls that returned took so long
PRINTED = 54  # where its output ended when predict() was called: bytes of its file
_WORDS = 80
_BYTES = _WORDS * 8
_TEXT = 200  # the last bytes: the id of the request in hand

# Upper bounds of the buckets in ns, 50 µs to 74 s, each 1.41 times the one before; one more bucket
# is for what took longer. The control plane has the same bounds: havre.domain.latency.
BOUNDS = tuple(round(50_000 * 2 ** (number / 2)) for number in range(42))
BUCKETS = len(BOUNDS) + 1

EMPTY = 0
LOADING = 1  # SINCE: began to load
IDLE = 2
BUSY = 3  # in predict(); SINCE: called
STREAMING = 4  # SINCE: called, ACTIVITY: last chunk
WRITING = 5  # SINCE: called; the answer is going out
READING = 6  # what the body says; SINCE: it was there. What is read is a stranger's
SERVING = (BUSY, STREAMING, WRITING, READING)


class Slot:
    """``words`` is indexed by the names above; times are ``time.monotonic_ns()``."""

    __slots__ = ("words", "_text")

    def __init__(self, memory):
        self.words = memory.cast("Q")
        self._text = memory[_BYTES - _TEXT :]

    def clear(self, pid, state, now):
        """Give the slot to another process; the counts go on."""
        words = self.words
        words[STATE] = state
        words[SINCE] = words[ACTIVITY] = now
        words[PID] = pid
        self.request_id = b""

    def returned(self):
        """Count a predict() that has just returned. Called for every request: 0.3 µs."""
        words = self.words
        words[TOOK] = took = monotonic_ns() - words[SINCE]
        words[SPENT] += took
        words[LATENCY + bisect_right(BOUNDS, took)] += 1

    def returned_to(self, requests):
        """The same for a call that answers several requests: each has waited all of its time."""
        self.returned()
        words = self.words
        took = words[TOOK]
        words[SPENT] += took * (requests - 1)
        words[LATENCY + bisect_right(BOUNDS, took)] += requests - 1

    def raised(self):
        """Of one that has raised only the time is told: its speed says nothing of the model's."""
        self.words[TOOK] = monotonic_ns() - self.words[SINCE]

    @property
    def request_id(self):
        return bytes(self._text).rstrip(b"\0")

    @request_id.setter
    def request_id(self, value):
        self._text[:] = value[:_TEXT].ljust(_TEXT, b"\0")


class Table:
    """``slots[n]`` belongs to copy ``n``."""

    def __init__(self, copies):
        self._memory = mmap.mmap(-1, copies * _BYTES)
        whole = memoryview(self._memory)
        self.slots = [Slot(whole[n * _BYTES : (n + 1) * _BYTES]) for n in range(copies)]

    def total(self, field):
        return sum(slot.words[field] for slot in self.slots)

    def latency(self):
        """How many calls of predict() fell into each bucket, of all copies together."""
        return [self.total(LATENCY + bucket) for bucket in range(BUCKETS)]

    def count(self, *states):
        return sum(slot.words[STATE] in states for slot in self.slots)
