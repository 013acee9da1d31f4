"""The `ModelChannel` of an instance that has a keeper: what is asked over its control socket."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from havre.domain.errors import EngineFault
from havre.domain.instance import CheckRequest, CheckResponse, InstanceStatus, RecordedRequest
from havre.domain.rollout.policy import Capture
from havre.domain.states import InstancePhase
from havre.engines import checks
from havre.engines.model_channel import always


class KeeperChannel:
    """``inspect`` looks at the instance, ``check_limit_s`` is how long one request of a check may
    take, ``end_keeper`` ends a keeper that runs.
    """

    def __init__(
        self,
        instance_id: str,
        control: Path,
        *,
        inspect: Callable[[str], InstanceStatus],
        check_limit_s: Callable[[str], float],
        end_keeper: Callable[[str], None],
    ) -> None:
        self._id = instance_id
        self._control = control
        self._inspect = inspect
        self._check_limit_s = check_limit_s
        self._end_keeper = end_keeper

    def check(
        self, requests: Sequence[CheckRequest], *, should_continue: Callable[[], bool] = always
    ) -> Iterator[CheckResponse]:
        with self._ready() as control:
            limit_s = self._check_limit_s(self._id)
            yield from checks.check(
                control, requests, limit_s=limit_s, should_continue=should_continue
            )

    def sample(self) -> CheckRequest | None:
        with self._ready() as control:
            return checks.sample(control)

    def record(self, limit: int) -> None:
        with self._ready() as control:
            checks.record(control, limit)

    def recorded(
        self, limit: int, *, should_continue: Callable[[], bool] = always
    ) -> list[RecordedRequest]:
        with self._ready() as control:
            return checks.recorded(control, limit, should_continue=should_continue)

    def capture(self, policy: Capture) -> None:
        with self._ready() as control:
            checks.capture(control, policy)

    def end_keeper(self) -> None:
        self._end_keeper(self._id)

    @contextmanager
    def _ready(self) -> Iterator[Path]:
        """The control socket to ask; what goes wrong there becomes an EngineFault."""
        phase = self._inspect(self._id).phase
        if phase is not InstancePhase.READY:
            raise EngineFault(f"instance {self._id} is {phase} and cannot be asked")
        try:
            yield self._control
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineFault(
                f"the keeper of instance {self._id} does not answer: {error}"
            ) from error
