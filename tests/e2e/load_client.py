"""The client's side of a load, in a process of its own: ``load.Load`` starts it and reads it.

The standard library's event loop holds hundreds of connections for a few percent of a core. Takes
its orders as JSON in the first argument, writes one line per outcome, again and again when the
oldest request was begun that has none yet, and, in the end, how many requests it sent. Ends when
its standard input is closed and every request has its outcome.
"""

import asyncio
import contextlib
import http
import itertools
import json
import sys
import time

OK = "200"
WRONG_ANSWER = "the answer to another request"
ANSWER_WITHIN_S = 65.0
TELL_EVERY_S = 0.02


class Broken(Exception):
    """The connection ended before the answer was whole."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.is_closed = False
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        status, *lines = bytes(head).split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines if b": " in line)
        length = int(headers[b"content-length"])
        if len(body) < length:
            return
        self._received.clear()
        if headers.get(b"connection") == b"close":
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(status.split()[1]), bytes(body)))

    def connection_lost(self, why: Exception | None) -> None:
        self.is_closed = True
        if self._answer is not None and not self._answer.done():
            ended = Broken("IncompleteRead" if self._received else "RemoteDisconnected")
            self._answer.set_exception(why or ended)

    def close(self) -> None:
        self.is_closed = True
        self._transport.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises OSError, TimeoutError, Broken."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._answer
        except BaseException:
            self.close()
            raise


class Client:
    def __init__(self, orders: dict) -> None:
        self._orders = orders
        self._numbers = itertools.count()
        self._told: list[str] = []
        self._unanswered: dict[int, float] = {}
        """When each was begun, in this order."""
        self._idle: list[Connection] = []
        self.ending = asyncio.Event()

    async def run(self) -> None:
        orders = self._orders
        kinds = [True] * orders["keep_alive"] + [False] * orders["short_lived"]
        telling = asyncio.create_task(self._tell())
        async with asyncio.TaskGroup() as senders:
            for place, is_kept in enumerate(kinds):
                senders.create_task(self._send(is_kept, place / len(kinds)))
            if orders["rate"]:
                senders.create_task(self._send_at_a_rate(senders))
        telling.cancel()
        self._flush()
        print(json.dumps({"sent": next(self._numbers)}), flush=True)

    async def _send(self, is_kept: bool, phase: float) -> None:
        """One request after another; clients begin spread over one pause, not all at once."""
        pause_s = self._orders["pause_s"]
        await asyncio.sleep(phase * pause_s)
        connection = None
        while not self.ending.is_set():
            connection = await self._ask(connection, time.monotonic(), is_kept)
            await asyncio.sleep(pause_s)
        if connection is not None:
            connection.close()

    async def _send_at_a_rate(self, senders: asyncio.TaskGroup) -> None:
        """Requests that wait for nobody. Their time counts from when they were due."""
        began = time.monotonic()
        for number in itertools.count():
            due = began + number / self._orders["rate"]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self.ending.wait()
            if self.ending.is_set():
                return
            senders.create_task(self._ask_from_the_pool(due))

    async def _ask_from_the_pool(self, due: float) -> None:
        connection = await self._ask(self._idle.pop() if self._idle else None, due, True)
        if connection is not None:
            self._idle.append(connection)

    async def _ask(
        self, connection: Connection | None, began: float, is_kept: bool
    ) -> Connection | None:
        """Send the next request and write down its outcome; the connection if it can be kept."""
        number = next(self._numbers)
        self._unanswered[number] = began
        mark = ""
        try:
            if connection is None or connection.is_closed:
                loop = asyncio.get_running_loop()
                where = self._orders["host"], self._orders["port"]
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    _, connection = await loop.create_connection(Connection, *where)
            status, body = await connection.ask(self._request(number, is_kept))
            told = json.loads(body)
            if status == http.HTTPStatus.OK:
                what = OK if told["echo"] == number else WRONG_ANSWER
                mark = told["mark"]
            else:
                what = f"{status} {told['code']}"
        except Broken as broken:
            what = str(broken)
        except (OSError, ValueError, KeyError) as error:
            what = type(error).__name__
        self._told.append(json.dumps([what, began, time.monotonic() - began, mark]))
        del self._unanswered[number]
        if connection is not None and not is_kept:
            connection.close()
        return connection if connection is not None and not connection.is_closed else None

    def _request(self, number: int, is_kept: bool) -> bytes:
        orders = self._orders
        body = json.dumps({"echo": number, **orders["data"]}).encode()
        head = (
            f"POST {orders['path']} HTTP/1.1\r\nhost: {orders['host']}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: {'keep-alive' if is_kept else 'close'}\r\n\r\n"
        )
        return head.encode() + body

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            self._flush()

    def _flush(self) -> None:
        told, self._told = self._told, []
        oldest = next(iter(self._unanswered.values()), time.monotonic())
        print("\n".join([*told, json.dumps({"oldest": oldest})]), flush=True)


async def main() -> None:
    client = Client(json.loads(sys.argv[1]))
    loop = asyncio.get_running_loop()

    def heard() -> None:
        loop.remove_reader(sys.stdin)
        client.ending.set()

    loop.add_reader(sys.stdin, heard)
    await client.run()


if __name__ == "__main__":
    asyncio.run(main())
