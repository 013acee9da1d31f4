"""Checks a new revision before it gets traffic: the artifact's own sample, then live requests.

A model may take a minute to answer, so it is done in the background, like preparing. Nothing of it
survives a crash: the next control plane checks again.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from functools import partial

from havre.domain import bandwidth
from havre.domain.errors import EngineFault, HavreError
from havre.domain.instance import CheckRequest, CheckResponse, RecordedRequest
from havre.domain.reported import text
from havre.domain.rollout.canary import in_ms
from havre.domain.rollout.planner_input import Outcome, Stage
from havre.domain.rollout.policy import Replay
from havre.domain.rollout.replay import Response, compare
from havre.engines.base import Engine
from havre.engines.model_channel import ModelChannel
from havre.reconciler.background import Background
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot

logger = logging.getLogger(__name__)

PARALLEL_VERIFICATIONS = 8
FAULT_PAUSE_S = 1.0
MAX_FAULTS = 5
"""An instance that does not take the check fails the revision only after this many times."""
MAX_QUOTED = 500
"""Characters of a response in a message."""
MAX_READ = 64 * 1024
"""Bytes of a response that are read for that."""


class Verifier:
    """One per change; a later change of the same deployment takes its place.

    ``wake`` is called with the deployment's id when there is an outcome.
    """

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        wake: Callable[[str], None],
        pool: futures.Executor | None = None,
    ) -> None:
        self._engine = engine
        self._recorder = recorder
        self._wake = wake
        self._background: Background[tuple[str, str]] = Background(
            pool or futures.ThreadPoolExecutor(PARALLEL_VERIFICATIONS, thread_name_prefix="verify")
        )

    def outcome(self, snapshot: Snapshot) -> Outcome:
        """How far the present change is."""
        return self._background.task(_key(snapshot)).outcome

    def begin(
        self, snapshot: Snapshot, instance_id: str, serving: Sequence[str], replay: Replay | None
    ) -> None:
        """``serving`` are the instances that have the live requests."""
        deployment_id, change_id = _key(snapshot)
        self._background.drop(lambda key, _: key[0] == deployment_id and key[1] != change_id)
        self._background.begin(
            _key(snapshot), partial(self._verify, snapshot, instance_id, tuple(serving), replay)
        )

    def forget(self, deployment_id: str) -> None:
        """The change has ended."""
        self._background.drop(lambda key, _: key[0] == deployment_id)

    def close(self) -> None:
        self._background.close()

    def _verify(
        self,
        snapshot: Snapshot,
        instance_id: str,
        serving: Sequence[str],
        replay: Replay | None,
    ) -> None:
        faults = 0
        try:
            channel = self._engine.channel(instance_id)
            if channel is None:
                self._note_unchecked(snapshot, "its model cannot be asked apart from its traffic")
                reason = ""
            else:
                reason = self._check(snapshot, channel)
                if not reason and replay is not None and serving:
                    reason = self._replay(snapshot, channel, serving, replay)
            outcome = Outcome(Stage.FAILED if reason else Stage.DONE, reason)
        except EngineFault as error:
            if not self._should_continue(snapshot):
                return  # it was canceled, and has ended for that
            logger.warning("checking %s: %s", instance_id, error.message)
            outcome, faults = Outcome(), self._background.task(_key(snapshot)).faults + 1
            if faults >= MAX_FAULTS:
                outcome = Outcome(Stage.FAILED, f"the check could not run: {error.message}")
            self._background.pause(FAULT_PAUSE_S)
        except HavreError as error:
            logger.warning("checking %s: %s", instance_id, error.message)
            outcome = Outcome()  # it could not be recorded: a later pass begins again
        except Exception as error:
            logger.exception("checking %s failed", instance_id)
            reason = f"the check could not run: {type(error).__name__}: {error}"
            outcome = Outcome(Stage.FAILED, reason)
        if self._background.finish(_key(snapshot), outcome, faults=faults):
            self._wake(snapshot.deployment_id)

    def _should_continue(self, snapshot: Snapshot) -> bool:
        """Whether a check that runs is to go on: its change has not ended."""
        return self._background.is_running(_key(snapshot))

    def _check(self, snapshot: Snapshot, channel: ModelChannel) -> str:
        """Why the revision must not serve; "" if it may."""
        sample = channel.sample()
        if sample is None:
            self._note_unchecked(snapshot, "the artifact has no sample request (test_input.json)")
            return ""
        [response] = channel.check(
            [sample], should_continue=partial(self._should_continue, snapshot)
        )
        if response.status != OK:
            return f"the check failed: {_failed_check(response)}"
        self._recorder.note(
            snapshot,
            "The new revision was checked: it answered the artifact's own sample in "
            f"{in_ms(response.took_s)}.",
            percent=70,
        )
        lines = bandwidth.in_requests(
            snapshot.spec.bandwidth_mbps,
            asked_bytes=len(sample.body),
            answered_bytes=len(response.body),
        )
        self._note_all(snapshot, lines)
        return ""

    def _note_unchecked(self, snapshot: Snapshot, why: str) -> None:
        self._recorder.note(snapshot, f"Nothing was checked: {why}.", percent=70)
        self._note_all(snapshot, bandwidth.in_bytes(snapshot.spec.bandwidth_mbps))

    def _note_all(self, snapshot: Snapshot, lines: Iterable[str]) -> None:
        for line in lines:
            self._recorder.note(snapshot, line)

    def _replay(
        self, snapshot: Snapshot, channel: ModelChannel, serving: Sequence[str], replay: Replay
    ) -> str:
        recorded = self._recorded(snapshot, serving, replay.requests)
        if not recorded:
            self._recorder.note(
                snapshot, "Nothing was replayed: no live request is recorded yet.", percent=72
            )
            return ""
        # All in one call: where each copy loads its own model, so does the child that answers each
        # call. Responses are compared as they come: together they may be larger than our memory.
        requests = [CheckRequest(request.body, request.content_type) for request in recorded]
        responses = channel.check(
            requests, should_continue=partial(self._should_continue, snapshot)
        )
        comparison = compare(
            (Response(live.status, live.response, live.took_s) for live in recorded),
            (Response(new.status, new.body, new.took_s) for new in responses),
            tolerance=replay.tolerance,
        )
        self._recorder.note(snapshot, f"Replay of live requests: {comparison}.", percent=72)
        return comparison.violated_limit(replay)

    def _recorded(
        self, snapshot: Snapshot, serving: Sequence[str], count: int
    ) -> list[RecordedRequest]:
        """The last ones, equally many of each instance."""
        should_continue = partial(self._should_continue, snapshot)
        share = -(-count // len(serving))
        recorded: list[RecordedRequest] = []
        for instance_id in serving:
            channel = self._engine.channel(instance_id)
            if channel is None:
                continue
            try:
                recorded += channel.recorded(share, should_continue=should_continue)
            except EngineFault as error:
                logger.info("no requests of %s to replay: %s", instance_id, error.message)
        return recorded[-count:]


OK = 200


def _key(snapshot: Snapshot) -> tuple[str, str]:
    return snapshot.deployment_id, "" if snapshot.change is None else snapshot.change.id


def _failed_check(response: CheckResponse) -> str:
    if response.status == 0:
        return f"the model did not answer the artifact's own sample: {response.error}"
    quoted = response.body[:MAX_READ].decode(errors="replace")
    try:
        quoted = str(json.loads(quoted)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    quoted = text(quoted, MAX_QUOTED)
    return f"the model answered the artifact's own sample with {response.status}: {quoted}"
