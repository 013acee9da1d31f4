"""A hostile model deployed the way users deploy: what it tries through its own endpoint."""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.e2e.havre_server import HavreServer
from tests.hostile.harness import (
    can_find_all,
    has_private_view,
    is_refused,
    needs_landlock,
    needs_root,
    open_interpreter,
)
from tests.hostile.model import DAEMON, SCORE
from tests.support.supervisor_harness import runs, wait_until
from uv import find_uv_bin

MANIFEST = """
MODEL_ARTIFACT_VERSION: "3.0"
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_ENV_SLUG: bare
    INFERENCE_ENV_TYPE: published
"""
HOG = "kept = []\nwhile True: kept.append(bytearray(1 << 24))"


@pytest.fixture(scope="module")
def server() -> Iterator[HavreServer]:
    server = HavreServer({})
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    folder.chmod(0o755)
    try:
        make = [find_uv_bin(), "venv", "-q", "--python", open_interpreter(), folder / "bare"]
        subprocess.run(make, check=True)
        server.havre("env", "publish", "bare", "--prefix", str(folder / "bare"))
        server.up()
        yield server
    finally:
        server.down()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def url(server: HavreServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a deployment that none of the tests ends: they come in any order."""
    return deployed(server, tmp_path_factory.mktemp("hostile"), "hostile")


def deployed(server: HavreServer, folder: Path, name: str) -> str:
    (folder / "score.py").write_text(SCORE)
    (folder / "runtime.yaml").write_text(MANIFEST)
    server.havre("deploy", str(folder), "--name", name, "--ocpus", "1", "--memory", "1")
    return next(
        str(row["url"]) for row in server.status()["deployments"] if row["display_name"] == name
    )


def does(url: str, code: str) -> tuple[int, Any]:
    body = json.dumps({"code": base64.b64encode(code.encode()).decode()}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, json.load(answer)["prediction"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@needs_landlock
def test_the_control_api_is_out_of_reach(server: HavreServer, url: str) -> None:
    where = urlsplit(server.url)
    address = (where.hostname, where.port)
    for kind in ("", "2, 1, 262"):
        code = f"import socket; socket.socket({kind}).connect({address}); answer = 'reached'"
        assert is_refused(does(url, code)[1])
    for name in ("api.sock", "supervisor.sock", "load-balancer.sock"):
        path = server.home / "run" / name
        assert path.is_socket()
        code = f"import socket; socket.socket(1).connect({str(path)!r}); answer = 'reached'"
        assert is_refused(does(url, code)[1]), name


@needs_landlock
def test_nothing_of_the_home_can_be_read(server: HavreServer, url: str) -> None:
    files = [path for path in server.home.rglob("*") if path.is_file()]
    kept = [path for path in files if path.name in ("havre.sqlite3", "identity.json")]
    kept += [
        path for path in files if path.parts[-2] in ("keys", "processes", "load-balancer", "logs")
    ]
    assert len(kept) > 5
    for path in kept:
        assert is_refused(does(url, f"answer = open({str(path)!r}, 'rb').read(1).hex()")[1]), path


def test_only_documented_variables_are_seen(url: str) -> None:
    _, told = does(url, "import os; answer = sorted(os.environ)")
    known = {"HOME", "TMPDIR", "PATH", "LANG", "LC_CTYPE", "PYTHONUNBUFFERED", "TENANCY_OCID"}
    known |= {"USER", "LOGNAME", "JAVA_TOOL_OPTIONS", "SPARK_LOCAL_IP"}
    assert [name for name in told if name not in known and not name.endswith("_THREADS")] == [
        name for name in told if name.startswith("MODEL_")
    ]


@needs_root
def test_a_hog_fails_alone(server: HavreServer, url: str) -> None:
    assert does(url, HOG)[0] == 500
    assert does(url, "answer = 1") == (200, 1)
    wait_until(lambda: "out of memory" in server.tell_logs(), "why it died")


def test_nothing_outlives_the_deployment(server: HavreServer, tmp_path: Path) -> None:
    before = set((server.home / "instances").iterdir())
    url = deployed(server, tmp_path, "ended")
    assert set((server.home / "instances").iterdir()) > before
    _, daemon = does(url, DAEMON)
    does(url, "open('left', 'w'); open('/dev/shm/havre-left-behind', 'w')")
    assert runs(daemon)
    server.havre("delete", url.rpartition("/")[2])
    if can_find_all:
        assert not runs(daemon)
    else:
        os.kill(daemon, signal.SIGKILL)
    assert set((server.home / "instances").iterdir()) == before
    left = Path("/dev/shm/havre-left-behind")
    assert not left.exists() or not has_private_view()
    left.unlink(missing_ok=True)
