"""A bare ASGI handler with orjson, on granian."""

import asked
import orjson
from granian import Granian
from granian.constants import Interfaces

predict = asked.load()

HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json")],
}


async def app(scope, receive, send):
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    answer = orjson.dumps({"prediction": predict(orjson.loads(body)["data"])})
    await send(HEAD)
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    Granian(
        "serve:app",
        address="127.0.0.1",
        port=asked.PORT,
        interface=Interfaces.ASGINL,
        workers=asked.WORKERS,
        log_access=False,
    ).serve()
