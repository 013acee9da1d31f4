"""``python -m havre.balancer.envoy.feed``: sends Envoy its files where it cannot watch them.

It listens on the Unix socket that the supervisor made for it, and speaks Envoy's discovery over
REST: the files hold such responses, word for word. A process of its own, so that a load balancer
that starts while the control plane is away serves what was published.
"""

import argparse
import json
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from havre.balancer.envoy.files import Files
from havre.home import Home
from havre.supervisor.spawn import FIRST_LISTENER

MAX_POLL_BYTES = 1024 * 1024
IDLE_S = 60.0


def response_to(files: Mapping[str, Path], path: str, known: str) -> tuple[int, bytes]:
    """Status and body for a poll: ``known`` is the version that Envoy has already."""
    file = files.get(path)
    if file is None:
        return 404, b""
    try:
        text = file.read_bytes()
        version = json.loads(text)["version_info"]
    except (OSError, ValueError, KeyError, TypeError):
        return 503, b""
    return (304, b"") if version == known else (200, text)


def resources(home: Home) -> dict[str, Path]:
    files = Files(home)
    return {
        "/v3/discovery:listeners": files.listeners,
        "/v3/discovery:clusters": files.clusters,
        "/v3/discovery:routes": files.route_configuration,
    }


def serve(files: Mapping[str, Path], listener: socket.socket) -> None:
    """For ever."""
    server = _Server("", _Handler, bind_and_activate=False)
    server.files = files
    server.socket.close()
    server.socket = listener
    server.serve_forever()


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    files: Mapping[str, Path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        poll = self.rfile.read(min(length, MAX_POLL_BYTES))
        status, body = response_to(self.server.files, self.path, _version(poll))
        self.send_response(status)
        if status != 304:
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Some polls a second, for ever, are not logged."""


def _version(poll: bytes) -> str:
    try:
        return str(json.loads(poll).get("version_info") or "")
    except (ValueError, AttributeError):
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m havre.balancer.envoy.feed")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--release", default="", help="set by `havre up`, shown by ps")
    home = Home(parser.parse_args().home.absolute())
    serve(resources(home), socket.socket(fileno=FIRST_LISTENER))


if __name__ == "__main__":
    main()
