"""Runs uv: a controlled environment, its words into a log file, its progress passed on.

The user's own configuration of indexes, proxies and certificates counts; what would change the
Python or the packages chosen does not.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from uv import find_uv_bin

from havre.domain.errors import EnvironmentFault
from havre.domain.progress import Progress
from havre.environments.confinement import Enclosure, Stranger, log_warnings
from havre.supervisor.confined import Confined
from havre.supervisor.spawn import SpawnFault

TIMEOUT_S = 1800.0
"""How long one run of uv may take; uv stops trying a dead network long before."""

MAX_FOLLOWED_BYTES = 1024 * 1024
"""Bytes of uv's words that are read again; the log has all of them."""

_POLL_S = 0.1
_ASK_LIMIT_S = 10.0
_KEPT = frozenset(
    {
        *("HOME", "PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "NETRC", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE"),
        *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "PKG_CONFIG_PATH"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME"),
    }
)
_CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
_OF_UV = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX|EXTRA_INDEX|FIND_LINKS|CACHE_DIR|OFFLINE|NO_CACHE|HTTP_|REQUEST|"
    r"NATIVE_TLS|SYSTEM_CERTS|INSECURE|KEYRING|CONCURRENT|CONFIG_FILE|NO_CONFIG|EXCLUDE_NEWER|"
    r"PYTHON_INSTALL_DIR|CREDENTIALS|LOCK_TIMEOUT)\w*"
)
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
}
ONLY_WHEELS = ("--only-binary", ":all:")
_NO_WHEEL = re.compile(
    r"no (usable )?wheels|building from source is disabled|"
    r"building source distributions (for \S+ )?is disabled",
    re.IGNORECASE,
)
_STEP = re.compile(r"(Resolved|Prepared|Downloading|Building|Built) .*")


class UvFailed(Exception):
    """uv ended with an error; the text is all that it printed."""


def lacks_wheels(failure: UvFailed) -> bool:
    """Whether uv failed because something has no wheel and was not to be compiled."""
    return _NO_WHEEL.search(" ".join(str(failure).split())) is not None


class Uv:
    """uv, for the environments of one home."""

    def __init__(self, enclosure: Enclosure) -> None:
        self._enclosure = enclosure

    def run(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        folder: Path,
        progress: Progress,
        writable: Sequence[Path] = (),
        held: Sequence[int] = (),
        limit_s: float = TIMEOUT_S,
    ) -> None:
        """Run uv to its end where no code of a package runs: it has the user's cache.

        Everything it prints is appended to ``log``. ``held`` are descriptors that stay open for as
        long as it lives, even if this process dies first. Raises UvFailed, or EnvironmentFault if
        it takes too long or cannot be started.
        """
        with self._enclosure.scratch() as scratch:
            environment = uv_environment(os.environ)
            cache = _cache(folder, environment)
            if cache is None:
                environment["UV_CACHE_DIR"] = str(scratch / "cache")
            start = _begin(log, arguments)
            with _reporting_spawn_faults(log):
                running = self._enclosure.run_ours(
                    [find_uv_bin(), *arguments],
                    log=log,
                    folder=folder,
                    environment=environment,
                    writable=[*writable, *([cache] if cache else [])],
                    scratch=scratch,
                    network=True,
                    held=held,
                )
                with running as uv:
                    _follow(uv, log, start, progress, limit_s)

    def run_foreign(
        self,
        arguments: Sequence[str],
        *,
        stranger: Stranger,
        scratch: Path,
        log: Path,
        folder: Path,
        progress: Progress,
        readable: Sequence[Path],
        writable: Sequence[Path] = (),
        network: bool = True,
        held: Sequence[int] = (),
        limit_s: float = TIMEOUT_S,
    ) -> None:
        """The same, where packages' own code runs: as a stranger, and with a cache in ``scratch``.

        What it fetches and compiles is so used by nothing else: uv looks at what it downloads, not
        at what lies in its cache. Of the user's configuration it is given uv.toml and variables.
        """
        environment = uv_environment(os.environ)
        environment |= _own_configuration(environment, scratch)
        stranger.give(scratch)
        start = _begin(log, arguments)
        with _reporting_spawn_faults(log):
            running = self._enclosure.run_foreign(
                [find_uv_bin(), *arguments],
                stranger=stranger,
                log=log,
                folder=folder,
                environment=environment,
                scratch=scratch,
                readable=[Path(find_uv_bin()), *readable, *_named_files(environment)],
                writable=writable,
                network=network,
                held=held,
            )
            with running as uv:
                _follow(uv, log, start, progress, limit_s)


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables uv runs with, from the caller's."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT
        or name.startswith("LC_")
        or name.lower() in _PROXIES
        or _OF_UV.fullmatch(name)
    }
    for pip, uv in _FROM_PIP.items():
        if pip in environ:
            # pip's lists have spaces between their items; uv's have commas between folders.
            value = environ[pip]
            kept.setdefault(uv, ",".join(value.split()) if uv == "UV_FIND_LINKS" else value)
    if not kept.keys() & _CERTIFICATES:
        kept["UV_SYSTEM_CERTS"] = "1"  # as pip does: a company's are there, not among uv's own
    return {
        **kept,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _cache(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """The cache that uv's configuration names, made if it is not there; None if there can be none.

    Others of this machine may read it, whatever umask we have: they may share it.
    """
    try:
        completed = subprocess.run(
            [find_uv_bin(), "cache", "dir"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            env=dict(environment),
            timeout=_ASK_LIMIT_S,
            check=True,
        )
        cache = Path(completed.stdout.strip())
        if not cache.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            cache.chmod(0o755)
        return cache if os.access(cache, os.W_OK) else None
    except (OSError, subprocess.SubprocessError):
        return None


def _own_configuration(environment: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """Variables for a uv that has ``scratch`` for its home; the user's uv.toml is copied there."""
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    configured = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    own = {
        "UV_CACHE_DIR": str(scratch / "cache"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "XDG_DATA_HOME": str(scratch / "data"),
        "NETRC": str(scratch / "netrc"),
    }
    stated = environment.get("UV_CONFIG_FILE")
    for source, target in (
        (configured / "uv" / "uv.toml", scratch / "config" / "uv" / "uv.toml"),
        (Path(stated) if stated else None, scratch / "stated.toml"),
    ):
        if source is not None and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
    return {**own, **({"UV_CONFIG_FILE": str(scratch / "stated.toml")} if stated else {})}


def _named_files(environment: Mapping[str, str]) -> list[Path]:
    """The files and folders that variables name: certificates, indexes, folders of wheels."""
    paths = []
    for name, value in environment.items():
        if name.startswith(("UV_", "SSL_")) or name == "REQUESTS_CA_BUNDLE":
            for word in re.split(r"[,\s]", value):
                path = word.rpartition("=")[2].removeprefix("file://")
                if path.startswith("/") and path.strip("/"):
                    paths.append(Path(unquote(path)))
    return paths


def _begin(log: Path, arguments: Sequence[str]) -> int:
    """Where in the log the words of this run begin."""
    with log.open("ab") as written:
        written.write(f"$ uv {' '.join(arguments)}\n".encode())
        written.flush()
        return written.tell()


@contextmanager
def _reporting_spawn_faults(log: Path) -> Iterator[None]:
    try:
        yield
    except SpawnFault as fault:
        raise EnvironmentFault(f"uv cannot be run: {fault}; its log is {log}") from fault


def _follow(uv: Confined, log: Path, start: int, progress: Progress, limit_s: float) -> None:
    log_warnings(uv, log)
    deadline = time.monotonic() + limit_s
    reported = 0
    while True:
        code = uv.wait(_POLL_S)
        lines = _read(log, start, start + MAX_FOLLOWED_BYTES).split("\n")[:-1]
        for line in lines[reported:]:
            if _STEP.fullmatch(line.strip()):
                progress(line.strip()[0].lower() + line.strip()[1:])
        reported = len(lines)
        if code is not None:
            break
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"building the environment took longer than {limit_s:.0f} s and was stopped; "
                f"its log is {log}"
            )
    if code != 0:
        end = log.stat().st_size
        raise UvFailed(_read(log, max(start, end - MAX_FOLLOWED_BYTES), end))


def _read(log: Path, start: int, end: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read(end - start).decode(errors="replace")
