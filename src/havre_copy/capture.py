"""A share of the requests and their responses, written to a file beside what the copy prints.

The policy lies in memory that the keeper writes and its copies read: the share, and names of fields
whose values are redacted here, before anything is written. A copy writes after it has responded,
never more than a limit, and serves on if that fails.

A line::

    {"time": 1764100000123, "request_id": "8F0…", "status": 200, "model_us": 412,
     "is_stream": false, "lost_before": 0, "request_type": "application/json",
     "response_type": …, "request": {"bytes": 21, "text": …},
     "response": {"bytes": 4, "base64": …}}

``time`` is epoch ms, ``model_us`` the time in predict(), ``lost_before`` counts the requests of
this copy before it that could not be written. Of a body only its length is there if it is too long
or must not be shown; a body that is not UTF-8 comes in base64.
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

from havre_copy.logger import FIRST_OWN_DESCRIPTOR
from havre_copy.slots import RECORD_BIT, RETAIN_FLAGS

MAX_BODY_BYTES = 64 * 1024  # of a longer one only the length is written
MAX_UNCOLLECTED_BYTES = 64 * 1024 * 1024  # what comes when the file has so many is lost
MAX_NAMES_BYTES = 4096
MAX_TYPE_LENGTH = 200
REDACTED = "[redacted]"
SUFFIX = ".captured"

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HEAD = Struct("<QII")  # the policy's version, length of its JSON, checksum of that
_BYTES = 2 * MAX_NAMES_BYTES


class CaptureControl:
    """The keeper's side: sends all copies the policy."""

    def __init__(self, table):
        self._slots = table.slots
        self._version = 0
        self.memory = mmap.mmap(-1, _BYTES)
        self.percent = 0
        self.redact = []

    @property
    def policy(self):
        """Arguments of ``set``."""
        return [self.percent, self.redact]

    def set(self, percent, redact):
        """From the next request on. ``percent`` of them, 0: none. Raises ValueError."""
        is_number = isinstance(percent, (int, float)) and not isinstance(percent, bool)
        if not is_number or not 0 <= percent <= 100:
            raise ValueError("percent must be 0 (nothing is captured) to 100")
        if not isinstance(redact, list) or not all(isinstance(name, str) for name in redact):
            raise ValueError("redact must be a list of names of fields")
        text = dumps({"share": percent / 100, "redact": redact}).encode("ascii")
        if len(text) > MAX_NAMES_BYTES:
            raise ValueError("the names to redact are too long together")
        for slot in self._slots:
            slot.words[RETAIN_FLAGS] &= RECORD_BIT
        self.percent, self.redact = percent, redact
        if not percent:
            return
        self._version += 1
        end = _HEAD.size + len(text)
        self.memory[:end] = _HEAD.pack(self._version, len(text), crc32(text)) + text
        for slot in self._slots:
            slot.words[RETAIN_FLAGS] |= self._version << 1


class CaptureWriter:
    """A copy's side. ``path``: of its file, made when the first line is written; empty: none."""

    def __init__(self, path, memory):
        self._path = path
        self._memory = memory
        self._version = 0
        self._share = 0.0
        self._names = frozenset()
        # Not the generator that predict() uses: what it draws must not depend on us.
        self._rng = Random()
        self._file = None
        self._lost = 0
        self._is_torn = False
        self._held = None

    def hold(self):
        """Write nothing until ``release``: other requests wait for their answers."""
        self._held = []

    def release(self):
        held, self._held = self._held, None
        for entry in held:
            self._write(*entry)

    def add(self, version, request, status, kind, response):
        """Capture a request that has just been answered, if it is drawn. Never raises.

        ``version``: of the policy, from the slot. ``response`` is None of a stream.
        """
        try:
            if version != self._version and not self._read_policy(version):
                return
            if self._rng.random() >= self._share:
                return
            entry = int(time() * 1000), request, status, kind, response, self._names
            if self._held is None:
                self._write(*entry)
            else:
                self._held.append(entry)
        except Exception:  # too deep, no memory left
            self._lost += 1

    def _read_policy(self, version):
        """Read the policy; False while the keeper is writing another."""
        stored, length, checksum = _HEAD.unpack_from(self._memory)
        text = bytes(self._memory[_HEAD.size : _HEAD.size + length])
        if stored != version or crc32(text) != checksum:
            return False
        policy = loads(text.decode("ascii"))
        self._version, self._share = version, policy["share"]
        self._names = frozenset(policy["redact"])
        return True

    def _write(self, now, request, status, kind, response, names):
        try:
            line = {
                "time": now,
                "request_id": request.id.decode("ascii", "replace"),
                "status": status,
                "model_us": (request.predict_ns or 0) // 1000,
                "is_stream": request.stream,
                "lost_before": self._lost,
                "request_type": request.content_type[:MAX_TYPE_LENGTH].decode("latin-1"),
                "response_type": kind[:MAX_TYPE_LENGTH].decode("latin-1"),
                "request": body_fields(request.body, names),
            }
            if response is not None:
                # What predict() raised may contain any value in its text, where no name finds it.
                is_secret = status != 200 and names
                line["response"] = (
                    {"bytes": len(response)} if is_secret else body_fields(response, names)
                )
            self._append(dumps(line).encode("ascii") + b"\n")
        except Exception:  # of the disk, or of an unforeseen body
            self._lost += 1
        else:
            self._lost = 0

    def _append(self, line):
        """Append one line. Raises OSError if it was not written as a whole."""
        if self._file is None:
            self._file = _open(self._path)
        if os.fstat(self._file).st_blocks * 512 + len(line) > MAX_UNCOLLECTED_BYTES:
            raise OSError("nobody has collected what was captured before")
        if self._is_torn:
            line = b"\n" + line
        written = os.write(self._file, line)
        self._is_torn = written < len(line)
        if self._is_torn:
            raise OSError("the disk is full")


def body_fields(body, names):
    """What a line says of a body whose fields of these names are redacted. Pure."""
    fields = {"bytes": len(body)}
    if len(body) > MAX_BODY_BYTES:
        return fields
    if names:
        try:
            text = dumps(redacted(loads(body), names), ensure_ascii=False)
        except (ValueError, RecursionError):
            return fields  # not JSON: nobody knows where such a field is
        if len(text) <= MAX_BODY_BYTES:
            fields["text"] = text
        return fields
    try:
        fields["text"] = body.decode("utf-8")
    except UnicodeDecodeError:
        fields["base64"] = b64encode(body).decode("ascii")
    return fields


def redacted(value, names):
    """A JSON value without the values of fields of these names. Raises RecursionError.

    Texts that are JSON themselves are parsed, too: oracle-ads sends data frames as such.
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
