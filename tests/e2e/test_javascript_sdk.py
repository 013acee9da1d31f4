"""Oracle's SDK for JavaScript, as it is: the whole life of a model and its deployment."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.artifacts import DOUBLE, scored
from tests.e2e.havre_server import HavreServer
from tests.e2e.oracle_client import OracleClient
from tests.support.caches import cache_folder

PACKAGES = ("oci-common@2.139.1", "oci-datascience@2.139.1", "oci-modeldeployment@2.139.1")
LIFE = Path(__file__).with_name("javascript_life.js")
INSTALL_LIMIT_S = 240
LIFE_LIMIT_S = 240


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """The SDK, installed once into the user's cache folder; skips the test if it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} to run Oracle's SDK for JavaScript with")
    cache = cache_folder()
    folder = cache / f"node-{hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
            try:
                done = subprocess.run(
                    [*install, "--prefix", str(folder)],
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"{', '.join(PACKAGES)}: not installed in {INSTALL_LIMIT_S} s")
            if done.returncode:
                pytest.skip(f"{', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
            (folder / "complete").touch()
    return folder / "node_modules"


@pytest.mark.timeout(INSTALL_LIMIT_S + LIFE_LIMIT_S + 60)
def test_the_sdk_for_javascript_does_the_whole_life_of_a_model(
    node_modules: Path, server: HavreServer, oracle: OracleClient, tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact.zip"
    artifact.write_bytes(scored(DOUBLE))
    config = tmp_path / "config"
    server.havre("oci-config", "--output", str(config))
    words = ["node", str(LIFE), str(config), "HAVRE"]
    done = subprocess.run(
        [*words, server.url, oracle.compartment_id, oracle.project_id, str(artifact)],
        capture_output=True,
        text=True,
        env={**os.environ, "NODE_PATH": str(node_modules)},
        timeout=LIFE_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == {
        "length": artifact.stat().st_size,
        "same": True,
        "description": "é",
        "created": "SUCCEEDED",
        "states": ["ACTIVE", "INACTIVE", "ACTIVE", "DELETED"],
        "logged": True,
        "listed": ["from-javascript"],
        "predicted": {"prediction": [2, 4]},
        "updated": "SUCCEEDED",
        "again": {"prediction": [6]},
        "refused": [404, "NotAuthorizedOrNotFound"],
        "model": "DELETED",
    }
