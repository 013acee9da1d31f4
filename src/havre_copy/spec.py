"""The instance that a keeper is to run: one JSON file, read once."""

import json
import os
from typing import NamedTuple

PROTOCOL = 1


class Spec(NamedTuple):
    """An instance to run. Times in seconds, sizes in bytes, paths absolute."""

    path: str
    instance: str
    deployment: str
    revision: str
    artifact: str
    copies: int
    predict_timeout_s: float
    stream_idle_s: float
    stream_total_s: float
    start_timeout_s: float
    min_ready_s: float
    max_body: int
    state_file: str
    output: str  # folder for the copies' own output; empty: it goes to the keeper's output


def read_spec(path):
    """The spec in a file. Raises OSError, or ValueError that says what is wrong with it."""
    with open(path, "rb") as file:
        stored = json.loads(file.read().decode("utf-8"))
    if stored.get("protocol") != PROTOCOL:
        raise ValueError(
            "%s speaks protocol %r, this keeper speaks %d"
            % (path, stored.get("protocol"), PROTOCOL)
        )
    missing = [
        name for name in ("instance", "artifact", "copies", "state_file") if name not in stored
    ]
    if missing:
        raise ValueError("%s lacks %s" % (path, ", ".join(missing)))
    if int(stored["copies"]) < 1:
        raise ValueError("%s asks for %s copies; at least 1 is needed" % (path, stored["copies"]))
    return Spec(
        path=os.path.abspath(path),
        instance=str(stored["instance"]),
        deployment=str(stored.get("deployment", "")),
        revision=str(stored.get("revision", "")),
        artifact=os.path.abspath(stored["artifact"]),
        copies=int(stored["copies"]),
        predict_timeout_s=float(stored.get("predict_timeout_s", 58)),
        stream_idle_s=float(stored.get("stream_idle_s", 60)),
        stream_total_s=float(stored.get("stream_total_s", 300)),
        start_timeout_s=float(stored.get("start_timeout_s", 300)),
        min_ready_s=float(stored.get("min_ready_s", 0)),
        max_body=int(stored.get("max_body", 10 * 1024 * 1024)),
        state_file=os.path.abspath(stored["state_file"]),
        output=os.path.abspath(stored["output"]) if stored.get("output") else "",
    )
