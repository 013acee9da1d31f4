"""A server of havre, as a user has one: started, asked and stopped with the `havre` command."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from havre.home import Home

HAVRE = Path(sys.executable).with_name("havre")
COMMAND_LIMIT_S = 240
START_LIMIT_S = 120
"""Of `up` and of `down`: both are within the time limit of one test."""


class HavreServer:
    """One home. ``settings`` are the ``HAVRE_*`` variables that its `up` sees."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        # Not pytest's folder: a socket's path has 107 bytes.
        self.home = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("HAVRE_")
        }
        self._environment = {**inherited, **settings, "NO_COLOR": "1"}
        self.code: Path | None = None
        """Where the code of another version lies, while its commands are used."""
        self.url = ""
        self._profile: dict[str, str] = {}

    def up(self) -> None:
        self.havre("up", "--port", "0", "--detach")
        self.url = json.loads(Home(self.home).server_file.read_text())["url"]
        self._profile = {}

    @property
    def profile(self) -> dict[str, str]:
        """What `havre oci-config` says of the profile that it writes: few tests need one."""
        if not self._profile:
            file = self.home / "oci.config"
            answer = self.havre("oci-config", "--output", str(file), "--json")
            self._profile = json.loads(answer.stdout)
        return self._profile

    def down(self) -> None:
        """Stop it, then look for what it left; the home is removed in any case."""
        try:
            self.havre("down")
            self._assert_nothing_is_left()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def status(self) -> dict[str, Any]:
        return json.loads(self.havre("status", "--json").stdout)

    def havre(self, *words: str, check: bool = True, text: str = "") -> subprocess.CompletedProcess:
        """Run a command on this home; ``text`` is its standard input."""
        done = subprocess.run(
            [HAVRE, *words, "--home", str(self.home)],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=START_LIMIT_S if words[0] in ("up", "down") else COMMAND_LIMIT_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"havre {' '.join(words)}: {done.stderr}\n{self.tell_logs()}")
        return done

    @property
    def environment(self) -> dict[str, str]:
        """What its commands see."""
        code = {} if self.code is None else {"PYTHONPATH": str(self.code)}
        return {**self._environment, **code}

    def tell_logs(self) -> str:
        """The ends of the logs, for the message of a test that failed."""
        parts = []
        for log in sorted(self.home.glob("logs/**/*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            parts.append(f"--- {log.relative_to(self.home)}\n{tail}")
        return "\n".join(parts)

    def _assert_nothing_is_left(self) -> None:
        # Every process of a home names the home: in its command, or as its working folder.
        mark = str(self.home)
        left = [
            process.info
            for process in psutil.process_iter(["pid", "cmdline", "cwd"])
            if mark in " ".join(process.info["cmdline"] or [])
            or mark in (process.info["cwd"] or "")
        ]
        assert left == []
        assert list(self.home.glob("processes/*")) == []
        assert not (self.home / "run" / "api.sock").exists(), "the control plane was cut short"
        listening = [path for path in self.home.rglob("*") if path.is_socket() and _answers(path)]
        assert listening == []
        where = urlsplit(self.url)
        if where.port:
            with closing(socket.socket()) as caller:
                assert caller.connect_ex((where.hostname, where.port)) != 0


def _answers(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as caller:
        return caller.connect_ex(str(path)) == 0
