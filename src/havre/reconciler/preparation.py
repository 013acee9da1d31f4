"""Prepares a revision: unpacks its artifact, builds its environment. Slow, so in the background.

Of one revision of a deployment one preparation runs at a time. After a crash it is begun again:
unpacking and building are idempotent.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from havre.catalog.archive import score_folder
from havre.catalog.manifest import read_manifest
from havre.catalog.unpacked import Unpacker
from havre.domain.errors import HavreError, StateUnavailable
from havre.domain.rollout.planner_input import Outcome, Stage
from havre.domain.workload import PythonWorkload
from havre.environments import Environments
from havre.reconciler.background import Background
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import PreparedRevision, Snapshot

logger = logging.getLogger(__name__)

PARALLEL_PREPARATIONS = 8
RETRY_S = 30.0
"""How long a failure is final where no change waits for the outcome; then it is tried again."""


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
        pool = ThreadPoolExecutor(PARALLEL_PREPARATIONS, thread_name_prefix="prepare")
        self._background: Background[tuple[str, str]] = Background(pool)

    def outcome(self, snapshot: Snapshot) -> Outcome:
        """How far the target revision is; a failure is forgotten after a while, to be retried."""
        revision = snapshot.revisions.get(snapshot.spec.revision)
        if revision is not None and revision.is_there:
            return Outcome(Stage.DONE)
        task = self._background.task(_key(snapshot))
        if task.outcome.stage is Stage.FAILED and time.monotonic() - task.at > RETRY_S:
            self.forget(snapshot)
            return Outcome()
        return task.outcome

    def begin(self, snapshot: Snapshot) -> None:
        self._background.begin(_key(snapshot), partial(self._prepare, snapshot))

    def forget(self, snapshot: Snapshot) -> None:
        """A failure has been recorded: the next change to this revision starts again."""
        self._background.drop(
            lambda key, task: key == _key(snapshot) and task.outcome.stage is Stage.FAILED
        )

    def close(self) -> None:
        self._background.close()

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
        # Without a failure the database has it as done from now on; or was unavailable, and then
        # it is begun again.
        outcome = Outcome(Stage.FAILED, failure) if failure else Outcome()
        if self._background.finish(_key(snapshot), outcome):
            self._wake(snapshot.deployment_id)

    def _do(self, snapshot: Snapshot) -> None:
        def progress(message: str) -> None:
            with suppress(StateUnavailable):  # a build of minutes goes on without its log
                self._recorder.note(snapshot, message)

        root = self._unpacker.ensure(snapshot.spec.artifact_digest)
        folder = score_folder(root)
        self._recorder.note(snapshot, "The model artifact is unpacked.", percent=10)
        manifest = read_manifest(folder)
        resolution = self._environments.resolve(manifest, folder)
        for message in (*manifest.warnings, *resolution.messages):
            progress(message)
        built = self._environments.ensure(resolution, progress)
        self._recorder.note(
            snapshot,
            f"The inference environment {built.slug} is ready (Python {built.python_version}).",
            percent=40,
        )
        prepared = PreparedRevision(PythonWorkload(built.interpreter, built.python_version, folder))
        self._recorder.add_revision(snapshot, prepared, built.digest)


def _key(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.deployment_id, snapshot.spec.revision
