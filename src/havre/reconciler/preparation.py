"""Preparing a revision: unpack its artifact, make its environment. Slow, so in the background.

One preparation per revision of a deployment runs at a time; what it came to is asked for by the
next pass. Nothing of it needs to survive a crash: unpacking and building are idempotent.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from havre.catalog.archive import score_folder
from havre.catalog.manifest import read_manifest
from havre.catalog.unpacked import Unpacker
from havre.domain.errors import HavreError, StateUnavailable
from havre.domain.observed import Preparation
from havre.environments import Environments
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import PreparedRevision, Snapshot

logger = logging.getLogger(__name__)

PARALLEL_PREPARATIONS = 8
RETRY_S = 30.0
"""How long a failure is believed when nobody waits for the outcome."""


@dataclass(frozen=True, slots=True)
class Outcome:
    state: Preparation
    reason: str = ""
    at: float = 0.0


class Preparer:
    """``wake`` is called with the deployment's id when a preparation has ended."""

    def __init__(
        self,
        unpacker: Unpacker,
        environments: Environments,
        recorder: Recorder,
        wake: Callable[[str], None],
    ) -> None:
        self._unpacker = unpacker
        self._environments = environments
        self._recorder = recorder
        self._wake = wake
        self._outcomes: dict[tuple[str, str], Outcome] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(PARALLEL_PREPARATIONS, thread_name_prefix="prepare")

    def state(self, snapshot: Snapshot) -> Outcome:
        """How far the wanted revision is; failures fade after a while, so that it is retried."""
        revision = snapshot.revisions.get(snapshot.spec.revision)
        if revision is not None and revision.is_there:
            return Outcome(Preparation.DONE)
        with self._lock:
            outcome = self._outcomes.get(_key(snapshot), Outcome(Preparation.NONE))
            if outcome.state is Preparation.FAILED and time.monotonic() - outcome.at > RETRY_S:
                del self._outcomes[_key(snapshot)]
                return Outcome(Preparation.NONE)
            return outcome

    def begin(self, snapshot: Snapshot) -> None:
        with self._lock:
            if _key(snapshot) in self._outcomes:
                return
            self._outcomes[_key(snapshot)] = Outcome(Preparation.RUNNING)
        self._pool.submit(self._prepare, snapshot)

    def forget(self, snapshot: Snapshot) -> None:
        """A failure has been told: the next wish for this revision starts afresh."""
        with self._lock:
            outcome = self._outcomes.get(_key(snapshot))
            if outcome is not None and outcome.state is Preparation.FAILED:
                del self._outcomes[_key(snapshot)]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, snapshot: Snapshot) -> None:
        failure = ""
        try:
            self._do(snapshot)
        except StateUnavailable as error:
            logger.warning("%s: prepared in vain: %s", snapshot.deployment_id, error.message)
        except HavreError as error:
            failure = error.message
        except Exception as error:
            logger.exception("preparing %s failed", snapshot.deployment_id)
            failure = f"preparing the model failed: {type(error).__name__}: {error}"
        with self._lock:
            if failure:
                self._outcomes[_key(snapshot)] = Outcome(
                    Preparation.FAILED, failure, time.monotonic()
                )
            else:
                # The database says DONE from now on, or was away: then it is begun again.
                del self._outcomes[_key(snapshot)]
        self._wake(snapshot.deployment_id)

    def _do(self, snapshot: Snapshot) -> None:
        def progress(message: str) -> None:
            with suppress(StateUnavailable):  # a build of minutes is not given up for that
                self._recorder.note(snapshot, message)

        root = self._unpacker.ensure(snapshot.spec.artifact_digest)
        folder = score_folder(root)
        self._recorder.note(snapshot, "The model artifact is unpacked.", percent=10)
        resolution = self._environments.resolve(read_manifest(folder), folder)
        for message in resolution.messages:
            progress(message)
        built = self._environments.ensure(resolution, progress)
        self._recorder.note(
            snapshot,
            f"The inference environment {built.slug} is ready (Python {built.python_version}).",
            percent=40,
        )
        prepared = PreparedRevision(built.interpreter, built.python_version, folder)
        self._recorder.add_revision(snapshot, prepared, built.digest)


def _key(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.deployment_id, snapshot.spec.revision
