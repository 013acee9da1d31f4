"""No library may make havre answer wrongly or hang for good, whatever a fork does to its threads.

What is installed anyway is tried with every run. `make forks` (HAVRE_FORKS=all) installs the rest,
some gigabytes, and what it finds becomes the table in docs/explanation/copies.md.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.forking.libraries import (
    FOUND,
    LARGE,
    LIBRARIES,
    SMALL,
    Library,
    read_found,
    row_name,
)
from tests.support.copy_instance import NO_RESPONSE, Instance, Launch
from tests.support.framework_environments import framework_python

from havre.engines.variables import THREAD_VARIABLES
from havre.environments.libraries import lent_variables

PLAINLY = Path(__file__).parents[1] / "forking" / "plainly.py"
ALL = os.environ.get("HAVRE_FORKS") == "all"
REQUESTS = (SMALL, LARGE)
MOST_LOST = 1  # requests that a keeper may need to find out that it must not fork
VERSION = "from importlib.metadata import version; print(version({name!r}))"
NAMES = {row_name(library, threads) for library in LIBRARIES for threads in library.threads}
chosen = [
    pytest.param(library, threads, id=row_name(library, threads))
    for library in LIBRARIES
    if ALL or library.is_here
    for threads in library.threads
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("library", "threads"), chosen)
def test_every_answer_is_right(
    launch: Launch, tmp_path: Path, library: Library, threads: str
) -> None:
    write_down(row_name(library, threads), None)  # it could not be run, until it has been
    python = framework_python(*library.packages) if ALL else Path(sys.executable)
    prefix = str(python.parent.parent)
    variables = {name: value.format(prefix=prefix) for name, value in library.variables.items()}
    variables = {**dict.fromkeys(THREAD_VARIABLES, threads), **lent_variables(python), **variables}
    (tmp_path / "score.py").write_text(library.score)
    plain = in_a_plain_fork(python, tmp_path / "score.py", variables)
    right = plain["answers"]
    row = {"version": version(python, library.packages[0]), "plain": describe(plain)}
    for name, more in {"alone": {}, "sampled": {"test_input.json": str(SMALL)}}.items():
        instance = launch(
            {"score.py": library.score, **more},
            python=python,
            environment=variables,
            predict_timeout_s=20,
            start_timeout_s=200,
        ).ready()
        first = instance.ask("status")["mode"]
        lost = ask_all(instance, right)
        mode = instance.state["mode"]
        row[name] = "shared" if first == "forked" else "per copy"
        if mode != first:
            row[name] += f", per copy after {lost} lost request"
        assert lost <= (MOST_LOST if mode != first else 0), instance.log
        instance.process.terminate()
        instance.process.wait(30)
    write_down(row_name(library, threads), row)


def test_what_is_written_down_is_of_these_libraries() -> None:
    assert read_found().keys() <= NAMES


def write_down(name: str, row: dict[str, str] | None) -> None:
    if not ALL:
        return
    rows = {known: each for known, each in read_found().items() if known in NAMES - {name}}
    if row is not None:
        rows[name] = row
    FOUND.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")


def ask_all(instance: Instance, right: list[Any]) -> int:
    """How many requests got no answer; whatever is answered must be right."""
    lost = 0
    for _ in range(3):
        for request, expected in zip(REQUESTS, right, strict=True):
            try:
                response = instance.post(request, timeout=60)
            except NO_RESPONSE:
                lost += 1
                continue
            assert response.status == 200, instance.log
            assert same(response.json, expected), instance.log
    return lost


def in_a_plain_fork(python: Path, score: Path, variables: dict[str, str]) -> dict[str, Any]:
    command = [python, "-W", "ignore", PLAINLY, score]
    done = subprocess.run(
        [*command, *map(str, REQUESTS)],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def describe(plain: dict[str, Any]) -> str:
    """What forks made of the requests."""
    small, large = (
        each.get("ended") or ("answers" if same(each["answer"], right) else "answers wrongly")
        for each, right in zip(plain["in_forks"], plain["answers"], strict=True)
    )
    return small if small == large else f"{small}; a large request {large}"


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (not isinstance(one, str) and math.isclose(one, other, rel_tol=1e-4))


def version(python: Path, package: str) -> str:
    code = VERSION.format(name=package.partition("=")[0])
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
