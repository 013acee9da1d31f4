"""The access log: one JSON object per request to a deployment, written by Envoy; and its rotation.

Envoy writes from a buffer that it flushes every half second, so no request waits for the disk, and
an Envoy that is killed takes so much of the log with it. What a line says:

=========== ======================================================================================
id          a UUID of the entry's own
time        when the request's first byte came, UTC, RFC 3339 with milliseconds
deployment  OCID; absent where no deployment was found for the path
request     ``opc-request-id``
method, path, protocol  as they were routed; the query is left out: clients put secrets there
status      of the answer
flags       Envoy's response flags: why it answered itself (``UO``: too busy), ``-`` if it did not
total_ms    from the request's first byte to the answer's last
copy_us     from when the request was passed on to the first byte of the copy's answer: waiting for
            a copy that is free, and ``predict``; absent where no copy was asked
bytes_in, bytes_out  bodies
copy        instance and copy that answered, ``8b1f0c7a55d2/1``
=========== ======================================================================================
"""

import gzip
import logging
import os
import shutil
import threading
import time
from pathlib import Path

from havre.balancer.admin import Admin
from havre.balancer.resources import REQUEST_ID, Json, typed
from havre.domain.errors import Unavailable

FLUSH_MS = 500
COPY_HEADER = "x-havre-copy"
NAMESPACE = "havre"
COPY = "copy"
DEPLOYMENT = "deployment"
"""Keys of metadata: of a request, and of a route."""

LOOK_S = 5.0
REOPENED_WITHIN_S = 10.0
SEGMENTS = 8
"""What is kept is divided into so many files: the oldest goes when another is begun."""
_BYTES_PER_MB = 1_000_000

_FIELDS = {
    "id": "%UNIQUE_ID%",
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "deployment": f"%METADATA(ROUTE:{NAMESPACE}:{DEPLOYMENT})%",
    "request": f"%REQ({REQUEST_ID})%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "total_ms": "%DURATION%",
    "copy_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "copy": f"%DYNAMIC_METADATA({NAMESPACE}:{COPY})%",
}

_log = logging.getLogger(__name__)


def access_log(path: Path) -> Json:
    """The connection manager's log of requests to deployments; the API's are not in it."""
    return {
        "name": "envoy.access_loggers.file",
        "filter": {
            "header_filter": {
                "header": {
                    "name": ":path",
                    "string_match": {"contains": "/ocid1.datasciencemodeldeployment."},
                }
            }
        },
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=str(path),
            log_format={"json_format": _FIELDS, "omit_empty_values": True},
        ),
    }


def note_copy() -> Json:
    """A filter that keeps the name of the copy for the log, and keeps it from the client."""
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": typed(
            "envoy.extensions.filters.http.header_to_metadata.v3.Config",
            response_rules=[
                {
                    "header": COPY_HEADER,
                    "on_header_present": {
                        "metadata_namespace": NAMESPACE,
                        "key": COPY,
                        "type": "STRING",
                    },
                    "remove": True,
                }
            ],
        ),
    }


class Rotation:
    """Keeps the log within a size: ``access.jsonl`` grows, ``access.<ms>.jsonl.gz`` are whole.

    Killed anywhere it leaves every line in one file or another, and goes on where it was.
    ``max_mb`` is for all files together, the compressed ones counted as they were before.
    """

    def __init__(self, path: Path, admin: Admin, *, max_mb: int) -> None:
        self._path = path
        self._admin = admin
        self._segment = max(1, max_mb * _BYTES_PER_MB // SEGMENTS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=REOPENED_WITHIN_S)

    def rotate(self) -> None:
        """One look: compress what an earlier one left, begin another file if it is time to.

        Raises OSError, and Unavailable while the load balancer does not answer.
        """
        for whole in self._whole():
            self._compress(whole)
        if _size(self._path) >= self._segment:
            self._close_the_file()
        for old in sorted(self._path.parent.glob(f"{self._path.stem}.*.jsonl.gz"))[:-SEGMENTS]:
            old.unlink()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.rotate()
            except (OSError, Unavailable) as error:
                _log.warning("the access log is not rotated: %s", error)

    def _close_the_file(self) -> None:
        """Envoy goes on in another; the one before is whole once that is there."""
        closed = self._path.with_suffix(f".{time.time_ns() // 1_000_000}.jsonl")
        self._path.rename(closed)
        self._admin.reopen_logs()
        deadline = time.monotonic() + REOPENED_WITHIN_S
        while not self._path.exists():
            # It opens the other with the next line that it has to write.
            if time.monotonic() > deadline or self._stopping.wait(FLUSH_MS / 1000):
                return
        self._compress(closed)

    def _whole(self) -> list[Path]:
        """Closed files that Envoy has left; it has, once the open one is there."""
        if not self._path.exists():
            return []
        return sorted(self._path.parent.glob(f"{self._path.stem}.*.jsonl"))

    def _compress(self, whole: Path) -> None:
        beside = whole.with_name(f".{whole.name}.gz")
        with whole.open("rb") as source, gzip.open(beside, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.chmod(beside, 0o600)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.rename(whole.with_name(f"{whole.name}.gz"))
        whole.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
