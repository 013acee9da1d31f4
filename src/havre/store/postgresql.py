"""Connections to PostgreSQL on which nothing waits for ever: not for a server that is gone, that
hangs, or is behind a firewall that drops packets; not for a lock; and no server for us.
"""

import re
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

CONNECT_LIMIT_S = 3
STATEMENT_LIMIT_S = 7.0
"""For one statement. None of the API or the reconciler takes nearly as long."""
LOCK_LIMIT_S = 5.0
IDLE_LIMIT_S = 8.0
"""Between two statements of a transaction: a control plane that was stopped in the middle of one
(a paused machine, say) loses its locks, of which one keeps a standby from taking over."""

_OTHER_DRIVERS = re.compile(r"postgres(ql)?(?=://)")

T = TypeVar("T")


def with_driver(url: str) -> str:
    """A URL as other programs write it, with the one driver that there is here."""
    return _OTHER_DRIVERS.sub("postgresql+psycopg", url, count=1)


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that breaks when its server does not answer.

    The server's own limit on statements is not enough: one that hangs does not enforce it.
    """

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        """psycopg's own, with a time limit."""
        return super().wait(self._limited(gen), *arguments, **options)

    def _limited(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + STATEMENT_LIMIT_S
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server did not answer within {STATEMENT_LIMIT_S:g} s"
                    )
                state = gen.send(ready)
        except StopIteration as ended:
            value: T = ended.value
            return value


def connect(*arguments: Any, **parameters: Any) -> LimitedConnection:
    """What psycopg.connect does, for a connection with limits."""
    connection = LimitedConnection.connect(
        *arguments, **{"connect_timeout": CONNECT_LIMIT_S, **parameters}
    )
    for name, limit_s in (
        ("lock_timeout", LOCK_LIMIT_S),
        ("idle_in_transaction_session_timeout", IDLE_LIMIT_S),
    ):
        connection.execute(f"SET {name} = '{limit_s:g}s'")
    connection.commit()
    return connection
