#!/usr/bin/env bash
# httpx 0.28.1 (httpcore 1.0.9) over HTTP/2: the time that one `content=bytes` takes grows with the
# square of its size, on the client's processor. httpcore cuts the body into frames and copies all
# that is left of it for each frame. On an idle machine 8 MB take 0.3 s and 32 MB 6 s, over loopback; over HTTP/1.1 32 MB
# take 0.3 s. The same bytes given as an iterator of 64 KiB pieces are sent in linear time, since
# only a piece is copied. A client that sends large arrays to a model server that speaks HTTP/2
# should send pieces, or HTTP/1.1. havre's load balancer takes both protocols; its own client
# (havre/client.py) speaks HTTP/1.1 and streams artifacts in pieces.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "httpx==0.28.1" "httpcore==1.0.9" "h2==4.3.0" "hypercorn==0.17.3"
cat > "$folder/counts.py" <<'PYTHON'
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
PYTHON
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder"
venv/bin/hypercorn -b "127.0.0.1:$port" counts:app > server.log 2>&1 &
server=$!
cat > measure.py <<'PYTHON'
import sys
import time

import httpx

url = f"http://127.0.0.1:{sys.argv[1]}/"
PIECE = 1 << 16


def seconds(client, size, in_pieces):
    body = b"x" * size
    pieces = (body[at : at + PIECE] for at in range(0, size, PIECE))
    began = time.perf_counter()
    response = client.post(url, content=pieces if in_pieces else body)
    assert response.text == str(size)
    return time.perf_counter() - began


with httpx.Client(http1=False, http2=True, timeout=120) as client:
    for attempt in range(100):
        try:
            client.post(url, content=b"")
            break
        except httpx.ConnectError:
            time.sleep(0.1)
    took = {}
    for megabytes in (8, 32):
        for in_pieces in (False, True):
            rounds = [seconds(client, megabytes << 20, in_pieces) for _ in range(3)]
            took[megabytes, in_pieces] = min(rounds)
            print(f"{megabytes} MB, {'pieces' if in_pieces else 'bytes'}: {min(rounds):.2f} s")
growth = took[32, False] / took[8, False]
print(f"four times the bytes take {growth:.1f} times as long")
sys.exit(not (growth > 6 and took[32, False] > 4 * took[32, True]))
PYTHON
venv/bin/python measure.py "$port" || { echo "this has changed"; exit 1; }
