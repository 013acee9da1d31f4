"""Asking a new revision before it gets traffic: the artifact's own sample, then live requests.

A model may take a minute to answer, so it is done in the background, like preparing; what it came
to is asked for by the next pass. Nothing of it survives a crash: the next control plane asks again.
"""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from havre.domain.canary import in_ms
from havre.domain.errors import EngineFault, HavreError
from havre.domain.instance import CheckAnswer, CheckRequest, RecordedRequest
from havre.domain.observed import Verification
from havre.domain.policy import Replay
from havre.domain.replay import Answer, compare
from havre.engines.base import Engine
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot

logger = logging.getLogger(__name__)

PARALLEL_VERIFICATIONS = 8
FAULT_PAUSE_S = 1.0
MOST_FAULTS = 5
"""An instance that cannot be asked is not the revision's fault until it is so, so many times."""
LONGEST_TOLD = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    state: Verification
    reason: str = ""
    faults: int = 0


class Verifier:
    """One per change; a later change of the same deployment takes its place.

    ``wake`` is called with the deployment's id when there is a verdict.
    """

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        wake: Callable[[str], None],
        pool: Executor | None = None,
    ) -> None:
        self._engine = engine
        self._recorder = recorder
        self._wake = wake
        self._pool = pool or ThreadPoolExecutor(PARALLEL_VERIFICATIONS, thread_name_prefix="verify")
        self._verdicts: dict[str, tuple[str, Verdict]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def state(self, snapshot: Snapshot) -> Verdict:
        """How far the change under way is."""
        with self._lock:
            change_id, verdict = self._verdicts.get(snapshot.deployment_id, ("", _NONE))
        is_this = snapshot.change is not None and snapshot.change.id == change_id
        return verdict if is_this else _NONE

    def begin(
        self, snapshot: Snapshot, instance_id: str, serving: Sequence[str], replay: Replay | None
    ) -> None:
        """``serving`` are the instances that have the live requests."""
        before = self.state(snapshot)
        if before.state is not Verification.NONE:
            return
        self._put(snapshot, Verdict(Verification.RUNNING, faults=before.faults))
        self._pool.submit(self._verify, snapshot, instance_id, tuple(serving), replay)

    def forget(self, deployment_id: str) -> None:
        """The change has ended."""
        with self._lock:
            self._verdicts.pop(deployment_id, None)

    def close(self) -> None:
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _put(self, snapshot: Snapshot, verdict: Verdict) -> None:
        assert snapshot.change is not None
        with self._lock:
            self._verdicts[snapshot.deployment_id] = (snapshot.change.id, verdict)

    def _verify(
        self,
        snapshot: Snapshot,
        instance_id: str,
        serving: Sequence[str],
        replay: Replay | None,
    ) -> None:
        faults = self.state(snapshot).faults
        try:
            reason = self._check(snapshot, instance_id)
            if not reason and replay is not None and serving:
                reason = self._replay(snapshot, instance_id, serving, replay)
            verdict = Verdict(Verification.FAILED if reason else Verification.DONE, reason)
        except EngineFault as error:
            logger.warning("checking %s: %s", instance_id, error.message)
            verdict = Verdict(Verification.NONE, faults=faults + 1)
            if verdict.faults >= MOST_FAULTS:
                reason = f"the check could not be made: {error.message}"
                verdict = Verdict(Verification.FAILED, reason)
            self._closing.wait(FAULT_PAUSE_S)
        except HavreError as error:
            logger.warning("checking %s: %s", instance_id, error.message)
            verdict = _NONE  # it could not be told: a later pass asks again
        except Exception as error:
            logger.exception("checking %s failed", instance_id)
            reason = f"the check could not be made: {type(error).__name__}: {error}"
            verdict = Verdict(Verification.FAILED, reason)
        if self._is_wanted(snapshot):
            self._put(snapshot, verdict)
            self._wake(snapshot.deployment_id)

    def _is_wanted(self, snapshot: Snapshot) -> bool:
        return self.state(snapshot).state is Verification.RUNNING

    def _check(self, snapshot: Snapshot, instance_id: str) -> str:
        """Why the revision must not serve; "" if it may."""
        sample = self._engine.sample(instance_id)
        if sample is None:
            self._recorder.note(
                snapshot,
                "Nothing was checked: the artifact has no sample request (test_input.json).",
                percent=70,
            )
            return ""
        [answer] = self._engine.check(instance_id, [sample])
        if answer.status != OK:
            return f"the check failed: {_how_it_answered(answer)}"
        self._recorder.note(
            snapshot,
            "The new revision was checked: it answered the artifact's own sample in "
            f"{in_ms(answer.took_s)}.",
            percent=70,
        )
        return ""

    def _replay(
        self, snapshot: Snapshot, instance_id: str, serving: Sequence[str], replay: Replay
    ) -> str:
        recorded = self._recorded(serving, replay.requests)
        if not recorded:
            self._recorder.note(
                snapshot, "Nothing was replayed: no live request is recorded yet.", percent=72
            )
            return ""
        # All in one go: where each copy loads its own model, so does each child that is asked.
        # Whoever calls the change off stops the instance, and that ends it.
        asked = [CheckRequest(each.body, each.content_type) for each in recorded]
        answers = self._engine.check(instance_id, asked)
        comparison = compare(
            [Answer(each.status, each.answer, each.took_s) for each in recorded],
            [Answer(each.status, each.body, each.took_s) for each in answers],
        )
        self._recorder.note(snapshot, f"Replay of live requests: {comparison}.", percent=72)
        return comparison.exceeded(replay)

    def _recorded(self, serving: Sequence[str], most: int) -> list[RecordedRequest]:
        """The last ones, as many of each instance."""
        share = -(-most // len(serving))
        recorded: list[RecordedRequest] = []
        for instance_id in serving:
            try:
                recorded += self._engine.recorded(instance_id)[-share:]
            except EngineFault as error:
                logger.info("no requests of %s to replay: %s", instance_id, error.message)
        return recorded[-most:]


OK = 200
_NONE = Verdict(Verification.NONE)


def _how_it_answered(answer: CheckAnswer) -> str:
    if answer.status == 0:
        return f"the model did not answer the artifact's own sample: {answer.error}"
    told = answer.body.decode(errors="replace")
    try:
        told = str(json.loads(told)["message"])
    except (ValueError, KeyError, TypeError):
        pass
    return (
        f"the model answered the artifact's own sample with {answer.status}: {told[:LONGEST_TOLD]}"
    )
