"""The telemetry process: ``python -m havre.telemetry --home DIR`` is what the supervisor runs.

It collects what the load balancer and the copies have written. It may be killed at any moment, and
goes on from the files; no prediction waits for it.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from havre.balancer.admin import Admin
from havre.domain.errors import HavreError
from havre.durable import file_lock
from havre.home import Home
from havre.settings import Settings, load_settings
from havre.telemetry.access_log import AccessLog
from havre.telemetry.collecting import Collector, Tally, run
from havre.telemetry.conversion import Converter
from havre.telemetry.instance_files import InstanceFiles
from havre.telemetry.metrics.collector import MetricsCollector
from havre.telemetry.otlp_export import LogExport, forget
from havre.telemetry.otlp_metrics import MetricExport
from havre.telemetry.otlp_sender import OtlpSender
from havre.telemetry.own_logs import OwnLogs
from havre.telemetry.upkeep import Upkeep

BYTES_PER_MB = 1_000_000
EXPORT_ENDS_S = 2.0
"""What is being exported may go on for so long after this process was told to end."""


def collectors(home: Home, settings: Settings) -> list[Collector]:
    """Everything that is collected, in the order in which it is looked at."""
    tally = Tally()
    metrics = MetricsCollector(home, tally)
    converter = Converter(home, tally, [metrics])
    most_bytes = settings.log_max_mb * BYTES_PER_MB
    return [
        AccessLog(home, Admin(home.admin_socket), converter, tally, most_bytes=most_bytes),
        metrics,
        InstanceFiles(
            home,
            converter,
            tally,
            lines_per_second=settings.log_lines_per_second,
            retention_days=settings.log_retention_days,
            most_bytes=most_bytes,
        ),
        Upkeep(
            home,
            converter,
            retention_days=settings.log_retention_days,
            most_bytes=most_bytes,
        ),
        OwnLogs(home),
    ]


def exporters(home: Home, settings: Settings, stopping: threading.Event) -> list[Collector]:
    """What waits for the network, in a thread of its own; nothing if there is no collector."""
    if not settings.otlp_url:
        forget(home)
        return []
    tally = Tally()
    sender = OtlpSender(settings.otlp_url, settings.otlp_headers_file)
    return [
        LogExport(home, sender, tally, is_stopping=stopping.is_set),
        MetricExport(home, sender, tally),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m havre.telemetry")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--release", default="", help="told by `havre up`, shown by ps")
    home = Home(parser.parse_args().home.absolute())
    try:
        settings = load_settings(home.root)
    except HavreError as error:
        sys.exit(f"telemetry cannot begin: {error.message}")
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each thing exported
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    home.telemetry.mkdir(mode=0o700, exist_ok=True)
    with file_lock(home.telemetry / "lock"):  # one of a home: an adopted one may still be ending
        exporting = exporters(home, settings, stopping)
        beside = threading.Thread(target=run, args=(exporting, stopping), daemon=True)
        if exporting:
            beside.start()
        run(collectors(home, settings), stopping)
        if exporting:
            _wait_for(beside)


def _wait_for(exporting: threading.Thread) -> None:
    """Python would end the thread wherever it is, and inside DuckDB's C++ that aborts the process:
    what still waits for the network after a while is left without Python's own ending."""
    exporting.join(EXPORT_ENDS_S)
    if exporting.is_alive():
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    main()
