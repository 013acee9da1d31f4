"""Shared memory: one slot per copy, written by the copy, read by the keeper.

Each field is one aligned 8-byte word, stored whole, so a reader never sees half of one. A copy that
hangs in C or is killed leaves its slot as it was: that is how the keeper knows what it was doing.
"""

import mmap

PID, STATE, SINCE, ACTIVITY = range(4)
ANSWERED = 4  # answers sent
FAILED = 5  # those with a 500, and requests that died with their copy
PREDICTED = 6  # returns of predict()
_WORDS = 16
_BYTES = _WORDS * 8
_TEXT = 64  # bytes 64..127: the id of the request in hand

EMPTY = 0
LOADING = 1  # SINCE: began to load
IDLE = 2
BUSY = 3  # in predict(); SINCE: called
STREAMING = 4  # SINCE: called, ACTIVITY: last chunk
WRITING = 5  # SINCE: called; the answer is going out


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

    @property
    def request_id(self):
        return bytes(self._text).rstrip(b"\0")

    @request_id.setter
    def request_id(self, value):
        self._text[:] = value[:_TEXT].ljust(_TEXT, b"\0")


class Table:
    """``slots[n]`` belongs to copy ``n``; one more, ``spare``, is for probes."""

    def __init__(self, copies):
        self._memory = mmap.mmap(-1, (copies + 1) * _BYTES)
        whole = memoryview(self._memory)
        slots = [Slot(whole[n * _BYTES : (n + 1) * _BYTES]) for n in range(copies + 1)]
        self.spare = slots.pop()
        self.slots = slots

    def total(self, field):
        return sum(slot.words[field] for slot in self.slots)

    def count(self, *states):
        return sum(slot.words[STATE] in states for slot in self.slots)
