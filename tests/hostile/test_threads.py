"""What libraries do where threads cannot be pinned nor Unix sockets made: real ones, filtered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from havre.supervisor import seccomp

SOURCES = Path(seccomp.__file__).parents[2]
BECOME = """
import os, sys
sys.path.insert(0, sys.argv[1])
from havre.supervisor import seccomp
from havre.supervisor.system_calls import PR_SET_NO_NEW_PRIVS, prctl
prctl(PR_SET_NO_NEW_PRIVS, 1)
seccomp.obey(unix_sockets=False, shares_user=True, file_modes=False)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
OPENMP = """
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
x = np.random.default_rng(0).normal(size=(2000, 20))
y = (x[:, 0] > 0).astype(int)
print(HistGradientBoostingClassifier(max_iter=3).fit(x, y).score(x, y) > 0.9)
"""
PROCESSES = """
import multiprocessing
if __name__ == "__main__":
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(way, pool.map(abs, [-1, -2]))
    try:
        multiprocessing.Manager()
    except (OSError, EOFError) as error:
        print("manager", type(error).__name__)
"""

pytestmark = pytest.mark.skipif(not seccomp.is_known_here(), reason="needs seccomp")


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BECOME, SOURCES, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", **variables}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def test_a_pool_of_openmps_works() -> None:
    pytest.importorskip("sklearn")
    done = run("-c", OPENMP)
    assert done.stdout == "True\n", done.stderr


def test_openmp_ends_a_process_that_pins_which_is_why_its_variables_are_left_out() -> None:
    pytest.importorskip("sklearn")
    done = run("-c", OPENMP, OMP_PROC_BIND="true")
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr


def test_pools_of_processes_work_and_managers_do_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROCESSES)
    done = run(program)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["fork [1, 2]", "spawn [1, 2]"], done.stderr
    assert lines[2].startswith("manager")
