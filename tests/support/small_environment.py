"""An environment that a real uv builds in a second, from a real index."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from havre.environments.definition import EnvironmentDefinition
from havre.environments.libraries import lent_variables

HERE = "{}.{}".format(*sys.version_info[:2])
SMALL = EnvironmentDefinition("small", HERE, ("six==1.17.0", "attrs==25.3.0"))


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("index")
    (folder / "in.txt").write_text("six==1.17.0\n")
    answer = subprocess.run(
        [find_uv_bin(), "pip", "compile", "-q", "in.txt"], cwd=folder, capture_output=True
    )
    if answer.returncode != 0:
        pytest.skip("no package index can be reached")


def says(interpreter: Path, code: str) -> str:
    variables = {**os.environ, **lent_variables(interpreter)}
    command = [interpreter, "-I", "-c", code]
    return subprocess.check_output(command, text=True, env=variables).strip()
