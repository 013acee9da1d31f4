"""Why a server that should be healthy is not, for every command to report."""

import re
from dataclasses import dataclass

import httpx

from havre.balancer.refusals import API_AWAY
from havre.home import Home
from havre.supervisor.protocol import BALANCER, CANNOT_BEGIN, CONTROL_PLANE, SERVES

HEALTH_LIMIT_S = 15.0
"""The API reports a database that hangs after ten seconds."""
_TAIL_BYTES = 64 * 1024
_OUTCOME = re.compile(f"({SERVES}|{CANNOT_BEGIN}) *(.*)")


@dataclass(frozen=True, slots=True)
class Trouble:
    """``serves``: the load balancer responds, so that predictions go on. ``is_reported``: the
    control plane itself gave the reason.
    """

    reason: str
    serves: bool = True
    is_reported: bool = False

    def __str__(self) -> str:
        return f"{self.reason}; predictions go on" if self.serves else self.reason


def trouble(home: Home, url: str) -> Trouble | None:
    """Why the server is not healthy; None when it is.

    A control plane that runs reports it. One that does not come up has logged it.
    """
    try:
        # Proxies of the environment are for the world outside.
        response = httpx.get(f"{url}/healthz", timeout=HEALTH_LIMIT_S, trust_env=False)
        if response.is_success:
            return None
        reason = str(response.json()["message"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log = home.logs / f"{BALANCER}.log"
        return Trouble(f"nothing answers at {url} ({error}); see {log}", serves=False)
    except (KeyError, TypeError, ValueError):
        return Trouble(f"{url}/healthz returned status {response.status_code}")
    if reason == API_AWAY:
        return Trouble(last_refusal(home) or reason)
    return Trouble(reason, is_reported=True)


def last_refusal(home: Home) -> str:
    """What the control plane logged when it did not come up; empty if it did, or has not tried."""
    try:
        with (home.logs / f"{CONTROL_PLANE}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            outcomes = _OUTCOME.findall(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return outcomes[-1][1] if outcomes and outcomes[-1][0] == CANNOT_BEGIN else ""
