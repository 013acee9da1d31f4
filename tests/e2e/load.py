"""A load that counts: every request it sends has one outcome, and none is sent twice.

Each request carries a number that its answer must echo, so an answer given to somebody else's
request is an outcome of its own. Runs as ``python tests/e2e/load.py URL SECONDS`` too.
"""

import http.client
import itertools
import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

OK = "200"
WRONG_ANSWER = "the answer to another request"
ANSWER_WITHIN_S = 65.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``what``: OK, a status with its code, WRONG_ANSWER, or the name of a broken connection's
    exception. Times are monotonic seconds; ``mark`` names the configuration that answered.
    """

    what: str
    began: float
    took_s: float
    mark: str = ""


class Load:
    """Clients that send one request after another for as long as the ``with`` block runs.

    ``keep_alive`` clients keep their connection, ``short_lived`` ones open one per request.
    ``pause_s`` is between two requests of a client; ``data`` goes into each request.
    """

    def __init__(
        self,
        url: str,
        *,
        keep_alive: int = 16,
        short_lived: int = 4,
        pause_s: float = 0.02,
        **data: Any,
    ) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        self._host, self._port, self._path = where.hostname, where.port, f"{where.path}/predict"
        self._pause_s = pause_s
        self._data = data
        self._numbers = itertools.count()
        self._outcomes: list[Outcome] = []
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(kept,), name="load")
            for kept in (*[True] * keep_alive, *[False] * short_lived)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Every request that was sent has its outcome when this returns."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    @property
    def outcomes(self) -> list[Outcome]:
        """So far."""
        return list(self._outcomes)

    @property
    def counts(self) -> Counter[str]:
        return Counter(outcome.what for outcome in self.outcomes)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.what != OK]

    def wait_for_more(self, count: int = 50, *, mark: str | None = None) -> None:
        """Until so many more were answered, with this mark if one is given."""
        begun, end = time.monotonic(), time.monotonic() + 2 * ANSWER_WITHIN_S
        while (
            sum(
                outcome.what == OK and outcome.began > begun and mark in (None, outcome.mark)
                for outcome in self.outcomes
            )
            < count
        ):
            assert time.monotonic() < end, f"{count} more answers did not come: {self.counts}"
            time.sleep(0.02)

    def _send(self, is_kept: bool) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_WITHIN_S)
        while not self._ending.is_set():
            self._outcomes.append(self._ask(connection, next(self._numbers), is_kept))
            if not is_kept:
                connection.close()
            self._ending.wait(self._pause_s)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int, is_kept: bool) -> Outcome:
        began = time.monotonic()
        mark = ""
        try:
            connection.request(
                "POST",
                self._path,
                json.dumps({"echo": number, **self._data}),
                {
                    "content-type": "application/json",
                    "connection": "keep-alive" if is_kept else "close",
                },
            )
            answer = connection.getresponse()
            told = json.loads(answer.read())
            if answer.status == http.HTTPStatus.OK:
                what = OK if told["echo"] == number else WRONG_ANSWER
                mark = told["mark"]
            else:
                what = f"{answer.status} {told['code']}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            what = type(error).__name__
        return Outcome(what, began, time.monotonic() - began, mark)


def main() -> None:
    url, seconds = sys.argv[1], float(sys.argv[2])
    with Load(url, pause_s=0) as load:
        time.sleep(seconds)
    times = sorted(outcome.took_s for outcome in load.outcomes if outcome.what == OK)
    print(dict(load.counts), f"{len(times) / seconds:.0f} answers/s")
    if times:
        middle, late = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"median {middle * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
