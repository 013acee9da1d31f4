"""On every machine of the matrix havre serves a model, swaps it, and says what it cannot enforce.

What it says is compared with what the model itself sees, so that neither can be wrong alone.
``HAVRE_MATRIX=product`` runs every combination (`make matrix`).
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.matrix import rows
from tests.matrix.rows import Row
from tests.matrix.server import NEEDED_BY_ALL, ORDINARY, MatrixServer, asking
from tests.support.supervisor_harness import wait_until

from havre.cli.doctor import isolation
from havre.supervisor import landlock
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.unprivileged import reachable, why_not_separate_users

CHOSEN = rows.product() if os.environ.get("HAVRE_MATRIX") == "product" else rows.pairwise()
QUESTIONS = 20


@pytest.fixture(scope="session")
def lacking() -> frozenset[str]:
    """Walls that this very machine does not have for root: no row can have them."""
    no_view, no_filter = isolation.tried()
    missing = {
        "users": why_not_separate_users(),
        "files": "" if landlock.abi() >= landlock.ABI_SIGNALS else "an old kernel",
        "view": no_view,
        "calls": no_filter,
        "cgroups": Cgroups(find_trees(is_root=True, only_look=True), Path("/")).missing,
    }
    return frozenset(wall for wall, why in missing.items() if why)


@pytest.mark.parametrize("row", [*rows.NAMED, *CHOSEN], ids=lambda row: row.name)
def test_it_serves_swaps_and_says_what_it_does_not_enforce(
    row: Row, environments: Path, lacking: frozenset[str]
) -> None:
    if why := _obstacle(row, lacking):
        pytest.skip(why)
    server = MatrixServer(row, environments)
    try:
        server.up()
        deployment, told = server.deploy()
        first = server.predict(deployment, 7)
        assert first["prediction"] == 7
        with asking(lambda: server.predict(deployment, 1)) as (failed, answered):
            wait_until(lambda: answered or failed, "a question before the change")
            told_again = server.swap(deployment)
            wait_until(lambda: len(answered) > QUESTIONS or failed, "questions")
        assert failed == []
        assert server.predict(deployment, 7)["prediction"] == 14
        findings = server.doctor()

        assert _said(told) == set(row.notes)
        assert _said(told_again) == set(row.notes)
        warned = {check for check, found in findings.items() if found["verdict"] != "ok"}
        assert warned - OF_THE_MACHINE == row.checks, findings
        assert all(found["remedy"] for check, found in findings.items() if check in warned)
        _check_what_it_sees(row, server, first["sees"])
    finally:
        server.close()


def _obstacle(row: Row, lacking: frozenset[str]) -> str:
    """Why this machine cannot be made out of the one the tests run on; "" where it can."""
    wanted = row.machine().keys()
    if os.geteuid() != 0 and (row.user == "root" or wanted - {"denied", "open_files"}):
        return "only root can bring this machine about"
    if more := lacking - row.lacks:
        return f"this very machine lacks what the row has: {', '.join(sorted(more))}"
    is_closed = row.user == "ordinary" and not all(map(reachable, NEEDED_BY_ALL))
    if "view" in lacking and (is_closed or wanted & {"mounts", "numbers"}):
        return "this very machine lets nothing be mounted"
    if "files" in lacking and "unwritable" in wanted:
        return "this very machine has no Landlock, by which this is simulated"
    return ""


OF_THE_MACHINE = frozenset({"disk", "memory", "port"})
"""What the doctor says of this machine, whatever the row."""
NOTES = {note for wall in rows.WALLS.values() for note in wall.all_notes}


SOUNDS_OPEN = re.compile(r"cannot be|not enforced|no private|Landlock|the model (can|runs as)")
OVERRIDE_FILE_MODES = 1 << 1


def _said(told: list[str]) -> set[str]:
    """The notes of the matrix; whatever else sounds like one must be one."""
    lines = [line for line in told if SOUNDS_OPEN.search(line)]
    strange = [line for line in lines if not any(note in line for note in NOTES)]
    assert strange == []
    return {note for note in NOTES if any(note in line for line in lines)}


def _check_what_it_sees(row: Row, server: MatrixServer, sees: dict[str, Any]) -> None:
    there = rows.WALLS.keys() - row.lacks
    server_user = {"root": 0, "ordinary": ORDINARY if os.geteuid() == 0 else os.geteuid()}
    assert (sees["user"] != server_user[row.user]) == ("users" in there)
    assert (sees["view"] != server.view) == ("view" in there)
    assert sees["filters"] - server.filters == ("calls" in there)
    assert ("/havre/" in sees["groups"]) == ("cgroups" in there)
    assert (sees["open to all"] == "") == ("files" in there)
    assert (sees["the server's"] == "") == bool({"users", "files"} & there)
    assert sees["capabilities"] | OVERRIDE_FILE_MODES == OVERRIDE_FILE_MODES
    assert sees["capabilities"] == 0 or sees["user"] == 0
