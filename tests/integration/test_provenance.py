"""What other Pythons tell of themselves, and what a notebook saves: with real processes."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

from havre import installed
from havre.environments.machine_pythons import Interpreters
from havre.provenance import pythons_at_hand


def test_an_activated_environment_tells_its_packages(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "v")], check=True)
    packages = next((tmp_path / "v" / "lib").glob("python3*")) / "site-packages"
    (packages / "mine-1.5.dist-info").mkdir()
    (packages / "mine-1.5.dist-info" / "METADATA").write_text(
        "Name: Mine\nVersion: 1.5\nRequires-Dist: six>=1\nRequires-Dist: no; extra == 'x'\n"
    )
    (packages / "mine-1.5.dist-info" / "RECORD").write_text("my/__init__.py,,\nlone.py,,\n")
    (_, found) = pythons_at_hand({"VIRTUAL_ENV": str(tmp_path / "v")})
    assert found.prefix == str(tmp_path / "v")
    assert set(found.packages) == {"mine"}
    assert found.packages["mine"].version == "1.5"
    assert found.packages["mine"].modules == {"my", "lone"}
    assert found.packages["mine"].requires == {"six"}


def test_an_environment_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\necho no JSON\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    assert len(pythons_at_hand({"VIRTUAL_ENV": str(tmp_path)})) == 1


def test_every_python_from_3_8_on_tells_what_it_has() -> None:
    program = Path(installed.__file__).read_text()
    newer = [one for one in Interpreters([]).all() if one.python != "3.7"]
    assert newer
    for one in newer:
        told = subprocess.run(
            [one.path, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(told.stdout)["python"] == one.python


def test_what_a_notebook_defines_goes_along(tmp_path: Path) -> None:
    program = (
        "import havre, math\n"
        "def area(rows):\n    return [math.pi * r * r for r in rows]\n"
        f"havre.save(area, {str(tmp_path / 'area')!r}, sample=[1, 2])\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert (tmp_path / "area" / "test_input.json").read_text() == "[1, 2]\n"
    assert "cloudpickle==" in (tmp_path / "area" / "requirements.txt").read_text()
    spec = importlib.util.spec_from_file_location("score_of_area", tmp_path / "area" / "score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.predict([1])["prediction"] == [math.pi]
