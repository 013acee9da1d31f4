"""Another version takes over a home, and no prediction is lost.

What could go wrong is looked at first, while nothing is changed. Then the supervisor goes on as
this version's, in its own place: its process id stays, and so do all it started. The rest is what
every `havre up` does: adopt what runs, and replace the control plane, which no prediction passes
through.
"""

import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

from havre.cli import bringup
from havre.domain.errors import IncorrectState, SystemFault
from havre.home import Home
from havre.release import Release, current
from havre.settings import Settings
from havre.supervisor import records
from havre.supervisor.client import Supervisor
from havre.supervisor.identity import Identity, is_running, send_signal
from havre.supervisor.protocol import BALANCER, ProcessStatus

GONE_WITHIN_S = 10.0


def change(about: Mapping[str, Any]) -> str:
    """What `havre up` does to the server that runs, in words; "" when it is this very version."""
    theirs = Release.of(about)
    return "" if theirs == current() else theirs.change_to(current())


def behind(about: Mapping[str, Any], processes: Iterable[ProcessStatus]) -> list[str]:
    """What of the server that runs is not of this version, a sentence each, with the remedy."""
    found = []
    if change(about):
        theirs, ours = Release.of(about), current()
        other = theirs.version if theirs.version != ours.version else "other code of this version"
        found.append(f"the server runs {other}, this is {ours.version}; `havre up` changes it")
    if any(each.name == BALANCER and each.renewed for each in processes):
        found.append(
            "the load balancer runs as an earlier version started it; "
            "it is the new one after `havre down` and `havre up`"
        )
    return found


def check(home: Home, settings: Settings) -> None:
    """Whether this version can take over what is in the home; nothing is changed.

    Raises IncorrectState saying what to do, Unavailable when the database is not reached.
    """
    if strangers := records.running_strangers(home.processes):
        raise IncorrectState(
            f"havre {current().version} cannot take over what runs in {home.root} "
            f"({', '.join(strangers)}): another version wrote the records of it. Stop it with "
            "that version's `havre down` first"
        )
    if settings.database_url or home.database.exists():
        # Imported here: it takes a fifth of a second, which no other command need wait for.
        from havre.store.database import Database, sqlite_url

        database = Database(settings.database_url or sqlite_url(home.database))
        try:
            database.check_schema()
        finally:
            database.close()


def hand_over(
    home: Home, settings: Settings, environ: Mapping[str, str], about: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Have the running supervisor go on as this version's; returns what that says of itself.

    None if it was too old to know how: it was killed, which those it started do not notice, and the
    next supervisor adopts them. Raises SystemFault when the successor does not come up.
    """
    before = Identity(**about["supervisor"])
    if not Release.of(about).code:
        _kill(before)
        return None
    options = ["--foreground"] if about["foreground"] else []
    command = bringup.supervisor_command(home, settings, *options)
    Supervisor(home.supervisor_socket).become(command, bringup.passed_on(environ))
    deadline = time.monotonic() + bringup.SUPERVISOR_WITHIN_S
    while is_running(before):
        told = bringup.answering(home)
        if told is not None and Release.of(told) == current():
            return told
        if time.monotonic() > deadline:
            break
        time.sleep(bringup.POLL_S)
    raise SystemFault(
        f"the supervisor did not come up as havre {current().version}; see "
        f"{home.logs / 'supervisor.log'} and supervisor.err beside it. "
        "What was deployed serves on; run `havre up` again"
    )


def _kill(supervisor: Identity) -> None:
    send_signal(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + GONE_WITHIN_S
    while is_running(supervisor):
        if time.monotonic() > deadline:
            raise SystemFault(f"the supervisor (pid {supervisor.pid}) does not end")
        time.sleep(bringup.POLL_S)
