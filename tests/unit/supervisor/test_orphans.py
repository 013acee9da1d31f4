from pathlib import Path

import pytest

from havre.home import Home
from havre.supervisor.orphans import name_of
from havre.supervisor.protocol import BALANCER

HOME = Home(Path("/srv/a home"))
PYTHON = "/usr/bin/python3.12"
LAUNCH = "/srv/a home/lib/0f/havre_copy/launch.py"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([PYTHON, "-P", "-m", "havre.service", "--home", "/srv/a home"], "control-plane"),
        ([PYTHON, "-m", "havre.telemetry", "--home", "/srv/a home", "--release", "1"], "telemetry"),
        (
            ["/x/envoy", "--config-path", "/srv/a home/load-balancer/bootstrap.json", "--log"],
            BALANCER,
        ),
        (["/env/bin/python", LAUNCH, "/srv/a home/instances/0a/spec.json"], "i-0a"),
    ],
)
def test_what_a_home_has_started_is_known_by_its_command(words: list[str], name: str) -> None:
    assert name_of(HOME, words) == name


@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        [PYTHON],
        [PYTHON, "-m"],
        [PYTHON, "-m", "havre.service"],
        [PYTHON, "-P", "-m", "havre.service", "--home", "/srv/a home/inner"],
        [PYTHON, "-P", "-m", "havre.service", "--home", "/srv/a"],
        [PYTHON, "-P", "-m", "pytest", "--home", "/srv/a home"],
        ["vim", "-m", "havre.service", "--home", "/srv/a home"],
        ["grep", "-rm", "havre.service", "--home", "/srv/a home"],
        ["/x/envoy", "--config-path", "/srv/a home/inner/load-balancer/bootstrap.json"],
        ["tail", "--config-path", "/srv/a home/load-balancer/bootstrap.json"],
        ["/env/bin/python", LAUNCH, "/tmp/havre-held-verify-1/spec.json"],
        ["/env/bin/python", "/other/lib/0f/havre_copy/launch.py", "/srv/a home/instances/0a/s"],
    ],
)
def test_nothing_else_is_taken_for_it(words: list[str]) -> None:
    assert name_of(HOME, words) == ""
