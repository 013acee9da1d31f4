"""Another version takes over a home, and no prediction is lost.

What could go wrong is checked first, while nothing is changed. Then the supervisor re-executes as
this version's: its process id stays, and so does everything it started. The rest is what every
`havre up` does: adopt what runs, and replace the control plane, which no prediction passes through.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from havre import kept_settings
from havre.domain.errors import IncorrectState, SystemFault
from havre.home import Home
from havre.operate import bringup, presence
from havre.release import Release, current
from havre.settings import Settings
from havre.supervisor import records
from havre.supervisor.client import SupervisorClient
from havre.supervisor.identity import Identity, is_running
from havre.supervisor.protocol import BALANCER, ProcessStatus


def change(about: Mapping[str, Any]) -> str:
    """What `havre up` does to the server that runs, in words; "" when it is of this version."""
    theirs = Release.of(about)
    return "" if theirs == current() else theirs.change_to(current())


def behind(about: Mapping[str, Any], processes: Iterable[ProcessStatus]) -> list[str]:
    """What of the server that runs is of another version: a sentence each, with the remedy."""
    sentences = []
    if change(about):
        theirs, ours = Release.of(about), current()
        other = theirs.version if theirs.version != ours.version else "other code of this version"
        sentences.append(f"the server runs {other}, this is {ours.version}; `havre up` changes it")
    if any(process.name == BALANCER and process.renewed for process in processes):
        sentences.append(
            "the load balancer runs as an earlier version started it; "
            "`havre down` and `havre up` replace it"
        )
    return sentences


def check(
    home: Home,
    settings: Settings,
    *,
    new_database: bool = False,
    changed: Collection[str] = (),
) -> None:
    """Check that this version, with these settings, can take over what is in the home.

    Nothing is changed, with two exceptions: ``new_database`` gives this home an empty database, and
    the settings that ``changed`` names are kept instead of those that the home was begun with.
    Raises IncorrectState saying what to do, Unavailable when the database is not reached.
    """
    kept_settings.check(home, settings, changed=changed)
    if strangers := records.running_strangers(home.processes):
        raise IncorrectState(
            f"havre {current().version} cannot take over what runs in {home.root} "
            f"({', '.join(strangers)}): another version wrote the records of it. Stop it with "
            "that version's `havre down` first"
        )
    # Imported here: it takes a fifth of a second, which no other command need wait for.
    from havre.store import beginning
    from havre.store.database import Database, sqlite_url

    database = Database(settings.database_url or sqlite_url(home.database))
    try:
        if new_database:
            beginning.begin_with_empty(home, database, now=datetime.now(UTC))
        else:
            beginning.check(home, database)
            database.check_schema()
    finally:
        database.close()
    kept_settings.change(home, settings, changed)


def hand_over(
    home: Home, settings: Settings, environ: Mapping[str, str], about: Mapping[str, Any]
) -> None:
    """Have the running supervisor go on as this version's. Raises SystemFault when that does not
    come up.
    """
    before = Identity(**about["supervisor"])
    options = ["--foreground"] if about["foreground"] else []
    command = bringup.supervisor_command(home, settings, *options)
    SupervisorClient(home.supervisor_socket).re_exec(command, bringup.passed_on(environ))
    deadline = time.monotonic() + bringup.SUPERVISOR_WITHIN_S
    while is_running(before):
        present = presence.responding(home)
        if present is not None and Release.of(present) == current():
            return
        if time.monotonic() > deadline:
            break
        time.sleep(bringup.POLL_S)
    raise SystemFault(
        f"the supervisor did not come up as havre {current().version}; see "
        f"{home.logs / 'supervisor.log'} and supervisor.err beside it. "
        "What was deployed serves on; run `havre up` again"
    )
