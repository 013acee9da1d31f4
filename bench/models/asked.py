"""What a server is asked to do, told by the benchmark in environment variables.

``PORT`` on 127.0.0.1, ``WORKERS`` processes with a model each, ``BATCH`` requests at most in one
call of ``predict`` (1: no batching), ``SCRATCH``: a folder of its own.
"""

import os
import socket
from pathlib import Path

from predictors import predictor

WORKLOAD = os.environ["BENCH_WORKLOAD"]
PORT = int(os.environ["BENCH_PORT"])
WORKERS = int(os.environ["BENCH_WORKERS"])
BATCH = int(os.environ["BENCH_BATCH"])
MODELS = Path(os.environ["BENCH_MODELS"])
SCRATCH = Path(os.environ["BENCH_SCRATCH"])


def load():
    """The model: a function of a list of rows."""
    return predictor(WORKLOAD, MODELS)


def another_port():
    """For what a server wants to open besides."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
