"""The last requests of an instance with their responses, in memory: a ring of records per copy.

A copy writes its own ring, the keeper reads them all. ``OLDEST`` moves on before bytes are
overwritten, ``WRITTEN`` once a record is complete, and a checksum covers the rest: a copy that is
killed in between leaves nothing that would be read as a record. Another process may continue the
ring. While nothing is recorded no page of a ring is touched, so it costs no memory.
"""

import mmap
from base64 import b64encode
from binascii import crc32
from struct import Struct
from time import monotonic_ns
from typing import NamedTuple

from havre_copy.slots import LAST_PREDICT_NS, OLDEST, RECORD_BIT, RETAIN_FLAGS, SINCE, WRITTEN

RING_BYTES = 1024 * 1024  # a copy; a request that is larger with its response is not recorded
PAGE_BYTES = 4 * 1024 * 1024  # of records sent at once

# Length and checksum of the record, when predict() was called and how long it took (ns), status,
# lengths of content-type and body; these three follow: content-type, body, response.
_HEAD = Struct("<IIQQHHI")
_SUM_AT, _SUMMED_FROM = 4, 8


class Recorded(NamedTuple):
    """One request. ``content_type`` and ``body`` as sent."""

    predict_ns: int
    status: int
    content_type: bytes
    body: bytes
    response: bytes


class Ring:
    """``memory`` of one copy, with the words of its slot. Positions count bytes since the first."""

    def __init__(self, memory, words):
        self._memory = memory
        self._words = words
        self._size = len(memory)

    def add(self, request, status, response):
        """Record a request that has just been answered: its slot still says when and how long."""
        words = self._words
        kind, body = request.content_type, request.body
        length = _HEAD.size + len(kind) + len(body) + len(response)
        if length > self._size or len(kind) > 0xFFFF:
            return
        record = bytearray(
            _HEAD.pack(
                length, 0, words[SINCE], words[LAST_PREDICT_NS], status, len(kind), len(body)
            )
        )
        record += kind
        record += body
        record += response
        record[_SUM_AT:_SUMMED_FROM] = _sum(record).to_bytes(4, "little")
        at = words[WRITTEN]
        words[OLDEST] = self._room_for(length, words[OLDEST], at)
        self._put(at, record)
        words[WRITTEN] = at + length

    def find(self):
        """``(since, position, length)`` of every record, oldest first."""
        words, records = self._words, []
        at, end = words[OLDEST], words[WRITTEN]
        while at < end <= at + self._size:
            length, _, since = _HEAD.unpack(self._get(at, _HEAD.size))[:3]
            oldest = words[OLDEST]
            if at < oldest:  # overwritten meanwhile, and so are all that were found
                at, records = oldest, []
                continue
            if not _HEAD.size <= length <= end - at:
                break  # user code has written here
            records.append((since, at, length))
            at += length
        return records

    def read(self, at, length):
        """The Recorded at a position, or None if it has been overwritten."""
        record = self._get(at, length)
        stated, checksum, _, predict_ns, status, kind, body = _HEAD.unpack_from(record)
        if stated != length or checksum != _sum(record) or at < self._words[OLDEST]:
            return None
        kind_ends = _HEAD.size + kind
        body_ends = kind_ends + body
        return Recorded(
            predict_ns,
            status,
            record[_HEAD.size : kind_ends],
            record[kind_ends:body_ends],
            record[body_ends:],
        )

    def _room_for(self, length, oldest, written):
        """The position of the oldest record that may stay."""
        while 0 <= written - oldest <= self._size:
            if written + length - oldest <= self._size:
                return oldest
            step = _HEAD.unpack(self._get(oldest, _HEAD.size))[0]
            if step < _HEAD.size:
                break
            oldest += step
        return written  # user code has written here: drop all records

    def _put(self, at, record):
        start = at % self._size
        fits = min(len(record), self._size - start)
        self._memory[start : start + fits] = record[:fits]
        self._memory[: len(record) - fits] = record[fits:]

    def _get(self, at, length):
        start = at % self._size
        fits = min(length, self._size - start)
        return bytes(self._memory[start : start + fits]) + bytes(self._memory[: length - fits])


class RequestRecorder:
    """The keeper's side of all rings."""

    def __init__(self, table):
        memory = memoryview(mmap.mmap(-1, RING_BYTES * len(table.slots)))
        self._slots = table.slots
        self.rings = [
            Ring(memory[number * RING_BYTES : (number + 1) * RING_BYTES], slot.words)
            for number, slot in enumerate(table.slots)
        ]
        self._since = 0
        self.limit = 0

    def retain(self, limit):
        """Have copies record requests from now on; ``page`` returns the last ``limit``. 0: none."""
        if limit and not self.limit:
            self._since = monotonic_ns()
        self.limit = limit
        flag = RECORD_BIT if limit else 0
        for slot in self._slots:
            slot.words[RETAIN_FLAGS] = slot.words[RETAIN_FLAGS] & ~RECORD_BIT | flag

    def page(self, before=None):
        """The control socket's response: as many as fit a page, newest first.

        Its ``before``, if not None, is the argument for the next page.
        """
        if before is not None and not _is_cursor(before):
            return {"error": "before must be what an earlier page said"}
        records, before = self._last(before)
        return {
            "recorded": [
                {
                    "body_base64": b64encode(record.body).decode("ascii"),
                    "content_type": record.content_type.decode("latin-1"),
                    "status": record.status,
                    "answer_base64": b64encode(record.response).decode("ascii"),
                    "took_s": record.predict_ns / 1e9,
                }
                for record in records
            ],
            "before": before,
            "most": self.limit,
        }

    def _last(self, before):
        if not self.limit:
            return [], None
        records = sorted(
            (since, number, at, length)
            for number, ring in enumerate(self.rings)
            for since, at, length in ring.find()
            # Requests that one call has answered have begun at the same time.
            if since >= self._since and (before is None or [since, number, at] < before)
        )
        page, size, last = [], 0, None
        for since, number, at, length in reversed(records[-self.limit :]):
            size += length
            if size > PAGE_BYTES:
                return page, last
            recorded = self.rings[number].read(at, length)
            if recorded is not None:
                page.append(recorded)
            last = [since, number, at]
        return page, None


def _is_cursor(before):
    return (
        isinstance(before, list)
        and len(before) == 3
        and all(isinstance(part, int) for part in before)
    )


def _sum(record):
    return crc32(memoryview(record)[_SUMMED_FROM:])
