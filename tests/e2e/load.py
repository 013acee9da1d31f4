"""A load that counts: every request it sends has one outcome, and none is sent twice.

Each request carries a number that its answer must echo, so an answer given to somebody else's
request is an outcome of its own. Runs as ``python tests/e2e/load.py URL SECONDS`` too.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

OK = "200"
ANSWER_WITHIN_S = 65.0
CLIENT = Path(__file__).with_name("load_client.py")


@dataclass(frozen=True, slots=True)
class Outcome:
    """``what``: OK, a status with its code, that it was the answer to another request, or how the
    connection broke. Times are monotonic seconds; ``mark`` names the configuration that answered.
    """

    what: str
    began: float
    took_s: float
    mark: str = ""

    @property
    def ended(self) -> float:
        return self.began + self.took_s


class Load:
    """Clients that send one request after another for as long as the ``with`` block runs.

    ``keep_alive`` clients keep their connection, ``short_lived`` ones open one per request.
    ``pause_s`` is between two requests of a client. ``rate`` requests a second are sent besides,
    on as many connections as it takes, whether others are answered or not. ``data`` goes into each
    request. All are sent by one process of their own, so that a busy test does not slow them.
    """

    def __init__(
        self,
        url: str,
        *,
        keep_alive: int = 16,
        short_lived: int = 4,
        pause_s: float = 0.02,
        rate: float = 0.0,
        **data: Any,
    ) -> None:
        where = urlsplit(url)
        self._orders = {
            "host": where.hostname,
            "port": where.port,
            "path": f"{where.path}/predict",
            "keep_alive": keep_alive,
            "short_lived": short_lived,
            "pause_s": pause_s,
            "rate": rate,
            "data": data,
        }
        self._outcomes: list[Outcome] = []
        self._sent: int | None = None
        self._oldest = 0.0
        self._client: subprocess.Popen[str]
        self._listener = threading.Thread(target=self._listen, name="load")

    def __enter__(self) -> Self:
        self._client = subprocess.Popen(
            [sys.executable, CLIENT, json.dumps(self._orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Every request that was sent has its outcome when this returns."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.close()
        self._listener.join()
        self._client.stdout.close()
        assert self._client.wait(timeout=10) == 0
        assert self._sent == len(self._outcomes)

    @property
    def outcomes(self) -> list[Outcome]:
        """So far, in the order in which they ended."""
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
        seen, found = len(self._outcomes), 0
        while True:
            news = self._outcomes[seen:]
            seen += len(news)
            found += sum(
                outcome.what == OK and outcome.began > begun and mark in (None, outcome.mark)
                for outcome in news
            )
            if found >= count:
                return
            assert self._client.poll() is None, "the client has ended"
            assert time.monotonic() < end, f"{count} more answers did not come: {self.counts}"
            time.sleep(0.02)

    def wait_for_answers(self) -> None:
        """Until every request that was sent before now has its outcome."""
        now, end = time.monotonic(), time.monotonic() + 2 * ANSWER_WITHIN_S
        while self._oldest < now:
            assert self._client.poll() is None, "the client has ended"
            assert time.monotonic() < end, f"not all answers came: {self.counts}"
            time.sleep(0.02)

    def _listen(self) -> None:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            told = json.loads(line)
            if isinstance(told, dict):
                self._sent = told.get("sent")
                self._oldest = told.get("oldest", self._oldest)
            else:
                self._outcomes.append(Outcome(*told))


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--keep-alive", type=int, default=64)
    parser.add_argument("--short-lived", type=int, default=4)
    parser.add_argument("--pause-s", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    chosen = vars(parser.parse_args())
    seconds = chosen.pop("seconds")
    with Load(**chosen) as load:
        time.sleep(seconds)
    times = [outcome.took_s for outcome in load.outcomes if outcome.what == OK]
    print(dict(load.counts), f"{len(times) / seconds:.0f} answers/s")
    if times:
        middle, late = quantile(times, 0.5), quantile(times, 0.99)
        print(f"median {middle * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
