"""The telemetry process: ``python -m havre.telemetry --home DIR`` is what the supervisor runs.

It collects what the load balancer and the copies have written. It may be killed at any moment and
resumes from the files; no prediction waits for it.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from havre.balancer.registry import balancer_process
from havre.domain.errors import HavreError
from havre.durable import file_lock
from havre.home import Home
from havre.settings import Settings, load_settings
from havre.telemetry.counters import Counters
from havre.telemetry.files.compaction import Compaction
from havre.telemetry.files.converter import Converter
from havre.telemetry.logs.access_log import AccessLog
from havre.telemetry.logs.instance_collector import InstanceCollector
from havre.telemetry.logs.rotation import LogRotation
from havre.telemetry.loop import Collector, run
from havre.telemetry.metrics.collector import MetricsCollector
from havre.telemetry.otlp.logs import LogExport, forget
from havre.telemetry.otlp.metrics import MetricExport
from havre.telemetry.otlp.sender import OtlpSender

BYTES_PER_MB = 1_000_000
EXPORT_ENDS_S = 2.0
"""How long a running export may take after the process was asked to stop."""


def collectors(home: Home, settings: Settings, counters: Counters) -> list[Collector]:
    """All collectors, in the order in which they run."""
    metrics = MetricsCollector(home, counters)
    converter = Converter(home, counters, [metrics])
    max_bytes = settings.log_max_mb * BYTES_PER_MB
    return [
        AccessLog(home, balancer_process(home), converter, counters, max_bytes=max_bytes),
        metrics,
        InstanceCollector(
            home,
            converter,
            counters,
            lines_per_second=settings.log_rate_limit,
            retention_days=settings.log_retention_days,
            max_bytes=max_bytes,
        ),
        Compaction(
            home,
            converter,
            retention_days=settings.log_retention_days,
            max_bytes=max_bytes,
        ),
        LogRotation(home),
    ]


def exporters(
    home: Home, settings: Settings, counters: Counters, stopping: threading.Event
) -> list[Collector]:
    """What waits for the network, in a thread of its own; empty without an OTLP collector."""
    if not settings.otlp_url:
        forget(home)
        return []
    sender = OtlpSender(settings.otlp_url, settings.otlp_headers_file)
    return [
        LogExport(home, sender, counters, is_stopping=stopping.is_set),
        MetricExport(home, sender, counters),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m havre.telemetry")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--release", default="", help="set by `havre up`, shown by ps")
    home = Home(parser.parse_args().home.absolute())
    try:
        settings = load_settings(home.root)
    except HavreError as error:
        sys.exit(f"telemetry cannot start: {error.message}")
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else it logs each export
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    home.telemetry.mkdir(mode=0o700, exist_ok=True)
    counters = Counters()
    with file_lock(
        home.telemetry / "lock"
    ):  # one for each home: an adopted process may still be stopping
        exporting = exporters(home, settings, counters, stopping)
        export_thread = threading.Thread(target=run, args=(exporting, stopping), daemon=True)
        if exporting:
            export_thread.start()
        run(collectors(home, settings, counters), stopping)
        if exporting:
            _wait_for(export_thread)


def _wait_for(export_thread: threading.Thread) -> None:
    """Python's shutdown would end the thread wherever it is, and inside DuckDB's C++ that aborts
    the process: if the thread still waits for the network after a while, skip that shutdown."""
    export_thread.join(EXPORT_ENDS_S)
    if export_thread.is_alive():
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    main()
