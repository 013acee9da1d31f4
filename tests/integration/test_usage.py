"""What processes use, where no control group counts it."""

import subprocess
import sys

import pytest

from havre.home import Home
from havre.supervisor.identity import identify
from havre.telemetry.metrics import usage
from havre.telemetry.metrics.usage import Usage

SPIN = "import time\nwhile time.process_time() < 0.1: pass\nprint('done', flush=True)\ninput()"


def test_the_time_of_a_process_that_is_gone_is_not_forgotten(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(usage, "find_trees", lambda **_: [])
    used = Usage(Home(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", SPIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        leader = identify(process.pid)
        assert leader is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = used.cpu_s("i-one", leader)
        assert before == pytest.approx(0.1, abs=0.3)
        assert before >= 0.09
        process.kill()
    assert used.cpu_s("i-one", leader) == before
    assert used.memory_bytes("i-one") is None
    used.forget(["i-one"])
    assert used.cpu_s("i-one", leader) == 0.0
