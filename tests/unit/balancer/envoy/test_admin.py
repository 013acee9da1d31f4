from pathlib import Path

import pytest

from havre.balancer.envoy.admin import Admin
from havre.domain.address import TcpAddress, UnixAddress

CLUSTERS = """\
api::observability_name::api
api::/run/api.sock::rq_active::7
3d02a60a0bbc2e365de0::default_priority::max_requests::8
3d02a60a0bbc2e365de0::/run/i1.sock::rq_active::2
3d02a60a0bbc2e365de0::/run/i1.sock::rq_total::9
3d02a60a0bbc2e365de0::10.0.0.7:8080::rq_active::1
3d02a60a0bbc2e365de0::[::1]:80::rq_active::4
57b7b2a00bbc2e365de0::/run/i1.sock::rq_active::3
"""


def test_active_requests_are_counted_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admin, "_get", lambda *_: CLUSTERS)
    assert Admin(Path("/run/envoy.sock")).active_requests() == {
        UnixAddress(Path("/run/i1.sock")): 5,
        TcpAddress("10.0.0.7", 8080): 1,
        TcpAddress("::1", 80): 4,
    }
