"""Keeps this home's disk usable while the control plane runs, whoever holds the lease.

One thread: it empties the trash, removes abandoned temporary folders, keeps the reserve, and ends
an instance that takes more of the disk than it may. It works slowly, with a small share of one
processor.
"""

import logging
import threading
import time
from collections.abc import Callable

from havre import temporary
from havre.domain.errors import HavreError
from havre.engines import disk_use
from havre.engines.base import LocalEngine
from havre.engines.disk_use import TooMany
from havre.engines.members import Members
from havre.engines.trash import Sweeper
from havre.home import Home
from havre.reserve import Reserve

ROUND_S = 10.0
SWEEP_S = 2.0
"""Of each round, for the trash, and for each temporary folder that was abandoned."""
PAUSE_S = 0.02
"""Between batches of files: `disk_use.AT_ONCE` take a few milliseconds."""
REST_FACTOR = 10
"""An instance is measured again after this many times what the last measurement took."""
MB = 1024 * 1024

logger = logging.getLogger(__name__)


class Housekeeping:
    """``max_mb`` is what one instance may take of the disk; 0: without limit."""

    def __init__(
        self,
        home: Home,
        engine: LocalEngine,
        members: Members,
        reserve: Reserve,
        *,
        max_mb: int,
    ) -> None:
        self._home = home
        self._engine = engine
        self._members = members
        self._reserve = reserve
        self._max_mb = max_mb
        self._sweeper = Sweeper(home.trash)
        self._due: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=ROUND_S)

    def run_once(self) -> None:
        """All tasks once. A task that fails is logged, and does not keep others from running."""
        for task in (self._reserve.keep, self._sweep, self._limit_instances):
            self._run_safely(task)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.run_once()
            self._stopping.wait(ROUND_S)

    def _run_safely(self, task: Callable[[], None]) -> None:
        try:
            task()
        except HavreError as error:
            logger.info("%s", error.message)
        except Exception:
            logger.exception("housekeeping failed")

    def _sweep(self) -> None:
        self._sweeper.sweep(within_s=SWEEP_S)
        temporary.sweep(within_s=SWEEP_S)

    def _limit_instances(self) -> None:
        if not self._max_mb:
            return
        running = self._members.of_running()
        self._due = {known: due for known, due in self._due.items() if known in running}
        for instance_id, pids in running.items():
            began = time.monotonic()
            if self._stopping.is_set() or began < self._due.get(instance_id, 0.0):
                continue
            reason = self._violation(instance_id, pids)
            ended = time.monotonic()
            self._due[instance_id] = ended + REST_FACTOR * (ended - began)
            if reason:
                logger.warning("instance %s is ended: %s", instance_id, reason)
                self._engine.end(instance_id, reason)

    def _violation(self, instance_id: str, pids: list[int]) -> str:
        """How it exceeds its limit; empty if it does not."""
        try:
            use = disk_use.measure(self._home, instance_id, pids, self._pause)
        except TooMany:
            return (
                f"the model left over {disk_use.MAX_FILES} files in its folders, more than an "
                "instance may"
            )
        if use.bytes <= self._max_mb * MB:
            return ""
        return (
            f"the model took {use.bytes // MB} MB of the disk, more than an instance may "
            f"({self._max_mb} MB, the setting instance_disk_mb)"
        )

    def _pause(self) -> None:
        self._stopping.wait(PAUSE_S)
