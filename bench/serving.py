"""A server, up for one measurement: started, asked until it answers rightly, ended."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from bench.forms import is_same
from bench.load.plan import Exchange, http_request, mask_of
from bench.peers import Server
from bench.workloads import WORKERS, Sample, Workload

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "bench" / "models"
START_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0
REQUEST_LIMIT_S = 70.0
POLL_S = 0.1
TIMES_ASKED = 6
"""How often each request is asked before a load, to see what differs between right answers."""
LOG_LINES_TOLD = 12


class NotServing(Exception):
    """A server did not start or does not answer rightly; the text says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``cage``: the process that everything of it is below."""

    server: Server
    workload: Workload
    cage: int
    port: int
    path: str
    start_s: float

    def exchanges(self) -> list[Exchange]:
        """Each sample as a request and the answer that it must get; asked here, and verified.

        Raises NotServing if an answer is wrong, or if two right ones have not the same length.
        """
        asking = _Asking(self.server, self.port, self.path)
        try:
            return [_exchange(asking, sample) for sample in self.workload.samples]
        except OSError as error:
            raise NotServing(f"{error!r} while it was asked one by one") from error
        finally:
            asking.close()


@contextmanager
def serving(
    server: Server, workload: Workload, *, python: Path, models: Path, scratch: Path
) -> Iterator[Running]:
    """``scratch``: a folder that stays from round to round. Raises NotServing."""
    scratch.mkdir(parents=True, exist_ok=True)
    log, address = scratch / "server.log", scratch / "address"
    address.unlink(missing_ok=True)
    port = _free_port()
    told = {
        "BENCH_WORKLOAD": workload.model,
        "BENCH_PORT": str(port),
        "BENCH_WORKERS": str(WORKERS),
        "BENCH_BATCH": str(server.batch),
        "BENCH_MODELS": str(models),
        "BENCH_SCRATCH": str(scratch),
    }
    command = [str(python), str(server.folder / "serve.py")]
    with log.open("wb") as output:
        cage = subprocess.Popen(
            [sys.executable, "-m", "bench.cage", str(scratch), *command],
            cwd=ROOT,
            env=_environment(python, told),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    began = time.monotonic()
    try:
        port, path = _answering(server, workload.samples[0], cage, (port, server.path), scratch)
        yield Running(server, workload, cage.pid, port, path, time.monotonic() - began)
    finally:
        cage.terminate()
        cage.wait(STOP_LIMIT_S)


def _environment(python: Path, told: Mapping[str, str]) -> dict[str, str]:
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(threads, "1"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(MODELS),
        "BENCH_HAVRE": str(Path(sys.executable).with_name("havre")),
        **told,
    }


def _answering(
    server: Server,
    sample: Sample,
    cage: subprocess.Popen[bytes],
    where: tuple[int, str],
    scratch: Path,
) -> tuple[int, str]:
    """Port and path, once a request is answered rightly. Raises NotServing."""
    deadline = time.monotonic() + START_LIMIT_S
    reason = "it wrote no address"
    while time.monotonic() < deadline:
        if cage.poll() is not None:
            reason = f"it ended with exit code {cage.returncode}"
            break
        if not server.path and (scratch / "address").exists():
            port, path = json.loads((scratch / "address").read_text())
            where = (port, path)
        if where[1]:
            asking = _Asking(server, *where)
            try:
                asking.verified(sample)
                return where
            except (OSError, HTTPException, NotServing) as error:
                reason = str(error) or repr(error)
            finally:
                asking.close()
        time.sleep(POLL_S)
    last = (scratch / "server.log").read_text(errors="replace").splitlines()[-LOG_LINES_TOLD:]
    raise NotServing("\n".join([f"did not start: {reason}", *last]))


def _exchange(asking: "_Asking", sample: Sample) -> Exchange:
    answers = [asking.verified(sample) for _ in range(TIMES_ASKED)]
    mask = mask_of(answers)
    if mask is None:
        raise NotServing(f"right answers differ in length: {answers[0][:200]!r}")
    return Exchange(http_request(asking.path, asking.body(sample)), answers[0], mask)


class _Asking:
    """One connection over which samples are asked and their answers verified."""

    def __init__(self, server: Server, port: int, path: str) -> None:
        self.path = path
        self._form = server.form
        self._connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_LIMIT_S)

    def body(self, sample: Sample) -> bytes:
        return json.dumps(self._form.ask(sample.rows), separators=(",", ":")).encode()

    def verified(self, sample: Sample) -> bytes:
        """The body of the answer. Raises NotServing if it is not the right one."""
        headers = {"content-type": "application/json"}
        self._connection.request("POST", self.path, self.body(sample), headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise NotServing(f"status {answer.status}: {text[:300]!r}")
        if not is_same(self._predictions(text), sample.prediction):
            raise NotServing(f"a wrong answer: {text[:300]!r}")
        return text

    def _predictions(self, text: bytes) -> Any:
        try:
            return self._form.answer(json.loads(text))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise NotServing(f"{error!r} in the answer {text[:300]!r}") from error

    def close(self) -> None:
        self._connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
