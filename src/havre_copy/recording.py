"""The last requests of an instance with their answers, in memory: a ring of records per copy.

A copy writes its own ring, the keeper reads them all. ``OLDEST`` moves on before bytes are written
over, ``WRITTEN`` once a record is whole, and a checksum covers the rest: whoever is killed in
between leaves nothing that would be taken for a record. Another process may go on with the ring.
While nothing is wanted no page of a ring is touched, so it costs no memory.
"""

import mmap
from base64 import b64encode
from binascii import crc32
from struct import Struct
from time import monotonic_ns
from typing import NamedTuple

from havre_copy.slots import KEEP, OLDEST, RECORDED, SINCE, TOOK, WRITTEN

RING_BYTES = 1024 * 1024  # a copy; what is larger with its answer is not kept
PAGE_BYTES = 4 * 1024 * 1024  # of records told at once

# Length and checksum of the record, when predict() was called and how long it took (ns), status,
# lengths of content-type and body; these three follow: content-type, body, answer.
_HEAD = Struct("<IIQQHHI")
_SUM_AT, _SUMMED_FROM = 4, 8


class Recorded(NamedTuple):
    """One request. ``content_type`` and ``body`` as sent, ``took`` in ns."""

    took: int
    status: int
    content_type: bytes
    body: bytes
    answer: bytes


class Ring:
    """``memory`` of one copy, with the words of its slot. Positions count bytes since the first."""

    def __init__(self, memory, words):
        self._memory = memory
        self._words = words
        self._size = len(memory)

    def add(self, request, status, answer):
        """Keep a request that has just been answered: its slot still tells when and how long."""
        words = self._words
        kind, body = request.content_type, request.body
        length = _HEAD.size + len(kind) + len(body) + len(answer)
        if length > self._size or len(kind) > 0xFFFF:
            return
        record = bytearray(
            _HEAD.pack(length, 0, words[SINCE], words[TOOK], status, len(kind), len(body))
        )
        record += kind
        record += body
        record += answer
        record[_SUM_AT:_SUMMED_FROM] = _sum(record).to_bytes(4, "little")
        at = words[WRITTEN]
        words[OLDEST] = self._room_for(length, words[OLDEST], at)
        self._put(at, record)
        words[WRITTEN] = at + length

    def find(self):
        """``(since, position, length)`` of every record, oldest first."""
        words, found = self._words, []
        at, end = words[OLDEST], words[WRITTEN]
        while at < end <= at + self._size:
            length, _, since = _HEAD.unpack(self._get(at, _HEAD.size))[:3]
            oldest = words[OLDEST]
            if at < oldest:  # written over meanwhile, and so is all that was found
                at, found = oldest, []
                continue
            if not _HEAD.size <= length <= end - at:
                break  # not of our writing
            found.append((since, at, length))
            at += length
        return found

    def read(self, at, length):
        """The Recorded at a position, or None if it is not there any more."""
        record = self._get(at, length)
        stated, told, _, took, status, kind, body = _HEAD.unpack_from(record)
        if stated != length or told != _sum(record) or at < self._words[OLDEST]:
            return None
        kind_ends = _HEAD.size + kind
        body_ends = kind_ends + body
        return Recorded(
            took,
            status,
            record[_HEAD.size : kind_ends],
            record[kind_ends:body_ends],
            record[body_ends:],
        )

    def _room_for(self, length, oldest, written):
        """Where the oldest record begins that may stay."""
        while 0 <= written - oldest <= self._size:
            if written + length - oldest <= self._size:
                return oldest
            step = _HEAD.unpack(self._get(oldest, _HEAD.size))[0]
            if step < _HEAD.size:
                break
            oldest += step
        return written  # not of our writing: forget all

    def _put(self, at, record):
        start = at % self._size
        fits = min(len(record), self._size - start)
        self._memory[start : start + fits] = record[:fits]
        self._memory[: len(record) - fits] = record[fits:]

    def _get(self, at, length):
        start = at % self._size
        fits = min(length, self._size - start)
        return bytes(self._memory[start : start + fits]) + bytes(self._memory[: length - fits])


class Recorder:
    """The keeper's side of all rings."""

    def __init__(self, table):
        memory = memoryview(mmap.mmap(-1, RING_BYTES * len(table.slots)))
        self._slots = table.slots
        self.rings = [
            Ring(memory[number * RING_BYTES : (number + 1) * RING_BYTES], slot.words)
            for number, slot in enumerate(table.slots)
        ]
        self._since = 0
        self.most = 0

    def keep(self, most):
        """Let copies keep requests from now on; ``page`` tells the last ``most``. 0: none."""
        if most and not self.most:
            self._since = monotonic_ns()
        self.most = most
        for slot in self._slots:
            slot.words[KEEP] = slot.words[KEEP] & ~RECORDED | (RECORDED if most else 0)

    def page(self, before=None):
        """As the control socket tells it: as many as fit a page, newest first.

        ``before`` in the answer, if not None, gets the page after it.
        """
        if before is not None and not _is_place(before):
            return {"error": "before must be what an earlier page said"}
        records, before = self._last(before)
        return {
            "recorded": [
                {
                    "body_base64": b64encode(record.body).decode("ascii"),
                    "content_type": record.content_type.decode("latin-1"),
                    "status": record.status,
                    "answer_base64": b64encode(record.answer).decode("ascii"),
                    "took_s": record.took / 1e9,
                }
                for record in records
            ],
            "before": before,
            "most": self.most,
        }

    def _last(self, before):
        if not self.most:
            return [], None
        found = sorted(
            (since, number, at, length)
            for number, ring in enumerate(self.rings)
            for since, at, length in ring.find()
            # Requests that one call has answered have begun at the same time.
            if since >= self._since and (before is None or [since, number, at] < before)
        )
        page, size, last = [], 0, None
        for since, number, at, length in reversed(found[-self.most :]):
            size += length
            if size > PAGE_BYTES:
                return page, last
            recorded = self.rings[number].read(at, length)
            if recorded is not None:
                page.append(recorded)
            last = [since, number, at]
        return page, None


def _is_place(before):
    return (
        isinstance(before, list)
        and len(before) == 3
        and all(isinstance(part, int) for part in before)
    )


def _sum(record):
    return crc32(memoryview(record)[_SUMMED_FROM:])
