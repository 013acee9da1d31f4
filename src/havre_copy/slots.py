"""Shared memory: one slot per copy, written by the copy, read by the keeper.

Each field is one aligned 8-byte word, stored whole, so a reader never sees half of one. A copy that
hangs in C or is killed leaves its slot as it was: that is how the keeper knows what it was doing.
"""

import mmap
from bisect import bisect_right
from time import monotonic_ns

PID, STATE, SINCE, ACTIVITY = range(4)
RESPONSES = 4  # responses sent
FAILED = 5  # those with a 500, and requests whose copy died
RETAIN_FLAGS = 6  # which requests are retained, 0: none. Written by the keeper
RECORD_BIT = 1  # of RETAIN_FLAGS: record in memory; the bits above it: capture, see capture.py
WRITTEN, OLDEST = 7, 8  # of its ring of records, in bytes since its first: see recording.py
LAST_PREDICT_NS = 9  # ns that the last predict() took, whether it returned or raised
PREDICT_NS = 10  # ns in calls of predict() that returned, counted for each request of a call
LATENCY = 11  # first of a word per bucket: how many requests' calls took that long and returned
PRINTED = 54  # where its output ended when predict() was called: bytes of its file
_WORDS = 80
_BYTES = _WORDS * 8
_TEXT = 200  # the last bytes: the id of the current request

# Upper bounds of the buckets in ns, 50 µs to 74 s, each 1.41 times the one before; one more bucket
# is for what took longer. The control plane has the same bounds: havre.domain.latency.
BOUNDS = tuple(round(50_000 * 2 ** (number / 2)) for number in range(42))
BUCKETS = len(BOUNDS) + 1

EMPTY = 0
LOADING = 1  # SINCE: began to load
IDLE = 2
BUSY = 3  # in predict(); SINCE: called
STREAMING = 4  # SINCE: called, ACTIVITY: last chunk
WRITING = 5  # the response; SINCE: predict() was called
READING = 6  # parsing the body, which is a stranger's; SINCE: the body was complete
SERVING = (BUSY, STREAMING, WRITING, READING)
PREDICTING = (BUSY, STREAMING)  # the model's own code is running


class Slot:
    """``words`` is indexed by the names above; times are ``time.monotonic_ns()``."""

    __slots__ = ("words", "_text")

    def __init__(self, memory):
        self.words = memory.cast("Q")
        self._text = memory[_BYTES - _TEXT :]

    def clear(self, pid, state, now):
        """Give the slot to another process; the counts continue."""
        words = self.words
        words[STATE] = state
        words[SINCE] = words[ACTIVITY] = now
        words[PID] = pid
        self.request_id = b""

    def returned(self):
        """Count a predict() that has just returned. Called for every request: 0.3 µs."""
        words = self.words
        words[LAST_PREDICT_NS] = predict_ns = monotonic_ns() - words[SINCE]
        words[PREDICT_NS] += predict_ns
        words[LATENCY + bisect_right(BOUNDS, predict_ns)] += 1

    def returned_to(self, requests):
        """The same for a call that answers several requests: each counts with all of its time."""
        self.returned()
        words = self.words
        predict_ns = words[LAST_PREDICT_NS]
        words[PREDICT_NS] += predict_ns * (requests - 1)
        words[LATENCY + bisect_right(BOUNDS, predict_ns)] += requests - 1

    def raised(self):
        """Store the time of a predict() that raised; it does not count for the model's latency."""
        self.words[LAST_PREDICT_NS] = monotonic_ns() - self.words[SINCE]

    @property
    def request_id(self):
        return bytes(self._text).rstrip(b"\0")

    @request_id.setter
    def request_id(self, value):
        self._text[:] = value[:_TEXT].ljust(_TEXT, b"\0")


class SlotTable:
    """``slots[n]`` belongs to copy ``n``."""

    def __init__(self, copies):
        self._memory = mmap.mmap(-1, copies * _BYTES)
        whole = memoryview(self._memory)
        self.slots = [Slot(whole[n * _BYTES : (n + 1) * _BYTES]) for n in range(copies)]

    def total(self, field):
        return sum(slot.words[field] for slot in self.slots)

    def latency(self):
        """How many calls of predict() took how long: a count per bucket, of all copies."""
        return [self.total(LATENCY + bucket) for bucket in range(BUCKETS)]

    def request_ages(self):
        """For how many seconds each copy has been working on its request; without streams."""
        now = monotonic_ns()
        ages = []
        for slot in self.slots:
            if slot.words[STATE] in (READING, BUSY):  # SINCE is written before
                ages.append(max(0, now - slot.words[SINCE]) / 1e9)
        return ages

    def count(self, *states):
        return sum(slot.words[STATE] in states for slot in self.slots)
