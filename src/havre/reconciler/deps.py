"""What the reconciler works with, put together once in `service`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from havre.balancer.base import Balancer
from havre.engines.base import Engine
from havre.reconciler.fence import Fence
from havre.reconciler.record import Recorder
from havre.settings import Settings
from havre.store.database import Database


@dataclass(frozen=True, slots=True)
class Deps:
    """``engine``, ``balancer`` and ``recorder`` act only while ``fence`` is open. ``clock`` is a
    monotonic clock in seconds.
    """

    database: Database
    engine: Engine
    balancer: Balancer
    recorder: Recorder
    fence: Fence
    settings: Settings
    tenancy_id: str
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Hooks:
    """What others want to know of the reconciler.

    ``on_pass`` gets how late each pass begins, in seconds; ``on_stuck`` every few seconds how many
    passes hang. ``make_room`` is called when a deployment that is to be ended is held up: the disk
    may be full. ``on_named`` gets a deployment's id and its display name, empty once the deployment
    is gone; ``on_listed`` the ids of all deployments, at the start.
    """

    on_pass: Callable[[float], None] = lambda _: None
    on_stuck: Callable[[int], None] = lambda _: None
    make_room: Callable[[], object] = lambda: None
    on_named: Callable[[str, str], None] = lambda *_: None
    on_listed: Callable[[set[str]], None] = lambda _: None
