"""Which load balancer a server has: the only place that names it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from havre.balancer.base import Balancer, BalancerProcess, OpenTo, Timeouts
from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.balancer.envoy.process import EnvoyProcess
from havre.home import Home


def balancer_process(home: Home) -> BalancerProcess:
    """The process of the home's load balancer, whether it runs or not."""
    return EnvoyProcess(home)


@contextmanager
def running_balancer(
    home: Home,
    *,
    timeouts: Timeouts,
    keys: Callable[[], Mapping[str, str]] | None,
    open_to: OpenTo,
) -> Iterator[Balancer]:
    """Publishes to that process until the block is left.

    With ``keys`` (base64 of DER, by key id) predictions must be signed by one of them; what it
    returns is checked every second. Without, requests must come from those that the server is
    ``open_to``. Raises Unavailable if what an earlier control plane published cannot be read.
    """
    balancer = EnvoyBalancer(home, timeouts=timeouts, keys=keys, open_to=open_to)
    balancer.start()
    try:
        yield balancer
    finally:
        balancer.stop()
