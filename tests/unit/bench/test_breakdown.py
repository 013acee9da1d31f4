"""Whose time it is."""

import pytest
from bench.breakdown import role_of


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/lib/envoy/_bin/envoy --config-path /h/envoy/bootstrap.json", "load balancer (Envoy)"),
        ("/v/bin/python -P -m havre.supervisor --home /tmp/envoyless", "supervisor"),
        ("/v/bin/python -P -m havre.service --home /h", "control plane"),
        (
            "/e/bin/python /h/lib/9218/havre_copy/launch.py /h/instances/a/spec.json",
            "keeper and copies",
        ),
        ("/e/bin/python /b/peers/havre/serve.py", "other"),
    ],
)
def test_a_command_line_tells_the_role(command: str, role: str) -> None:
    assert role_of(command) == role
