"""A share of the requests and their answers, written to a file beside what the copy prints.

How it is done lies in memory that the keeper writes and its copies read: the share, and names of
fields that are blotted out here, before anything is written. A copy writes when it has answered,
never more than a bound, and goes on whatever becomes of it.

A line::

    {"time": 1764100000123, "id": "8F0…", "status": 200, "us": 412, "stream": false, "lost": 0,
     "type": "application/json", "answer_type": …, "request": {"bytes": 21, "text": …},
     "response": {"bytes": 4, "base64": …}}

``time`` is epoch ms, ``us`` the time in predict(), ``lost`` counts those of this copy that could
not be written before it. A body has its length alone where it is too long or must not be told;
what is no UTF-8 comes in base64.
"""

import fcntl
import mmap
import os
from base64 import b64encode
from binascii import crc32
from json import dumps, loads
from random import Random
from struct import Struct
from time import time

from havre_copy.journal import FIRST_OWN_DESCRIPTOR
from havre_copy.slots import KEEP, RECORDED

MOST_BODY = 64 * 1024  # bytes of one; of a longer one only the length is kept
MOST_WAITING = 64 * 1024 * 1024  # bytes that nobody has collected yet; what comes then is lost
MOST_NAMES_BYTES = 4096
LONGEST_TYPE = 200
REDACTED = "[redacted]"
SUFFIX = ".captured"

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HEAD = Struct("<QII")  # which way this is, length of its JSON, checksum of that
_BYTES = 2 * MOST_NAMES_BYTES


class Capturing:
    """The keeper's side: says to all copies how to capture."""

    def __init__(self, table):
        self._slots = table.slots
        self._way = 0
        self.memory = mmap.mmap(-1, _BYTES)
        self.percent = 0
        self.redact = []

    def set(self, percent, redact):
        """From the next request on. ``percent`` of them, 0: none. Raises ValueError."""
        is_number = isinstance(percent, (int, float)) and not isinstance(percent, bool)
        if not is_number or not 0 <= percent <= 100:
            raise ValueError("percent must be 0 (nothing is captured) to 100")
        if not isinstance(redact, list) or not all(isinstance(name, str) for name in redact):
            raise ValueError("redact must be a list of names of fields")
        text = dumps({"share": percent / 100, "redact": redact}).encode("ascii")
        if len(text) > MOST_NAMES_BYTES:
            raise ValueError("the names to redact are too long together")
        for slot in self._slots:
            slot.words[KEEP] &= RECORDED
        self.percent, self.redact = percent, redact
        if not percent:
            return
        self._way += 1
        end = _HEAD.size + len(text)
        self.memory[:end] = _HEAD.pack(self._way, len(text), crc32(text)) + text
        for slot in self._slots:
            slot.words[KEEP] |= self._way << 1


class Capture:
    """A copy's side. ``path``: of its file, which is made with the first line; none if empty."""

    def __init__(self, path, memory):
        self._path = path
        self._memory = memory
        self._way = 0
        self._share = 0.0
        self._names = frozenset()
        # Not the one that predict() draws from: what it draws must not depend on us.
        self._chance = Random()
        self._file = None
        self._lost = 0
        self._is_torn = False
        self._held = None

    def hold(self):
        """Write nothing until ``release``: other requests wait for their answers."""
        self._held = []

    def release(self):
        held, self._held = self._held, None
        for what in held:
            self._write(*what)

    def add(self, way, request, status, kind, answer):
        """Capture a request that has just been answered, if the lot says so. Never raises.

        ``way``: what the slot says. ``answer`` is None where there is none as a whole.
        """
        try:
            if way != self._way and not self._read_way(way):
                return
            if self._chance.random() >= self._share:
                return
            told = int(time() * 1000), request, status, kind, answer, self._names
            if self._held is None:
                self._write(*told)
            else:
                self._held.append(told)
        except Exception:  # too deep, no memory left
            self._lost += 1

    def _read_way(self, way):
        """False while the keeper writes another."""
        number, length, told = _HEAD.unpack_from(self._memory)
        text = bytes(self._memory[_HEAD.size : _HEAD.size + length])
        if number != way or crc32(text) != told:
            return False
        found = loads(text.decode("ascii"))
        self._way, self._share = way, found["share"]
        self._names = frozenset(found["redact"])
        return True

    def _write(self, now, request, status, kind, answer, names):
        try:
            line = {
                "time": now,
                "id": request.id.decode("ascii", "replace"),
                "status": status,
                "us": (request.took or 0) // 1000,
                "stream": request.stream,
                "lost": self._lost,
                "type": request.content_type[:LONGEST_TYPE].decode("latin-1"),
                "answer_type": kind[:LONGEST_TYPE].decode("latin-1"),
                "request": told_of(request.body, names),
            }
            if answer is not None:
                # What predict() raised may repeat any value in words: no name tells where.
                is_secret = status != 200 and names
                line["response"] = {"bytes": len(answer)} if is_secret else told_of(answer, names)
            self._append(dumps(line).encode("ascii") + b"\n")
        except Exception:  # of the disk, or of a body like none before
            self._lost += 1
        else:
            self._lost = 0

    def _append(self, line):
        """Raises OSError: what could not be written as a whole counts for nothing."""
        if self._file is None:
            self._file = _open(self._path)
        if os.fstat(self._file).st_blocks * 512 + len(line) > MOST_WAITING:
            raise OSError("nobody has collected what was captured before")
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._file, line)
        self._is_torn = written < len(line)
        if self._is_torn:
            raise OSError("the disk is full")


def told_of(body, names):
    """What is told of a body whose fields of these names are blotted out. Pure."""
    told = {"bytes": len(body)}
    if len(body) > MOST_BODY:
        return told
    if names:
        try:
            text = dumps(redacted(loads(body), names), ensure_ascii=False)
        except (ValueError, RecursionError):
            return told  # not JSON: who knows where such a field is
        if len(text) <= MOST_BODY:
            told["text"] = text
        return told
    try:
        told["text"] = body.decode("utf-8")
    except UnicodeDecodeError:
        told["base64"] = b64encode(body).decode("ascii")
    return told


def redacted(value, names):
    """A value of JSON without what objects in it have under these names. Raises RecursionError.

    Texts that are JSON themselves are looked into: oracle-ads sends data frames as such.
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if key in names else redacted(part, names) for key, part in value.items()
        }
    if isinstance(value, list):
        return [redacted(part, names) for part in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            inner = loads(value)
        except ValueError:
            return value
        return dumps(redacted(inner, names), ensure_ascii=False)
    return value


def _open(path):
    if not path:
        raise OSError("this copy has no file of its own")
    # It must be new: the folder is the user's, and anything may lie there.
    file = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN_DESCRIPTOR)
    finally:
        os.close(file)
