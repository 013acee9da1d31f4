"""Runs uv: a controlled environment, its words into a log file, its progress passed on.

The user's own configuration of indexes, proxies and certificates counts; what would change the
Python or the packages chosen does not.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from uv import find_uv_bin

from havre.domain.errors import EnvironmentFault

Progress = Callable[[str], None]

TIMEOUT_S = 1800.0
"""How long one run of uv may take; uv gives up on a dead network long before."""

_POLL_S = 0.1
_KEPT = frozenset(
    {
        *("HOME", "PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "NETRC", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE"),
        *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "PKG_CONFIG_PATH"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME"),
    }
)
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
_STEP = re.compile(r"(Resolved|Prepared|Downloading|Building|Built) .*")


class UvFailed(Exception):
    """uv ended with an error; the text is all that it printed."""


def silent(line: str) -> None:
    """Progress that nobody watches."""
    del line


def run_uv(
    arguments: Sequence[str],
    *,
    log: Path,
    folder: Path,
    progress: Progress,
    keep_open: Sequence[int] = (),
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Run uv to its end in ``folder``; everything it prints is appended to ``log``.

    ``keep_open`` are descriptors that it inherits: a lock among them is held for as long as uv
    lives, even if this process dies first.
    Raises UvFailed, or EnvironmentFault if it takes too long.
    """
    with log.open("ab") as written:
        written.write(f"$ uv {' '.join(arguments)}\n".encode())
        written.flush()
        start = written.tell()
        process = subprocess.Popen(
            [find_uv_bin(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            cwd=folder,
            env=uv_environment(os.environ),
            pass_fds=tuple(keep_open),
        )
    try:
        _follow(process, log, start, progress, timeout_s)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode != 0:
        raise UvFailed(_read_from(log, start))


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
    return {
        **kept,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
        "PYTHONNOUSERSITE": "1",
    }


def _follow(
    process: subprocess.Popen[bytes],
    log: Path,
    start: int,
    progress: Progress,
    timeout_s: float,
) -> None:
    deadline = time.monotonic() + timeout_s
    told = 0
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"building the environment took longer than {timeout_s:.0f} s and was stopped; "
                    f"its log is {log}"
                ) from None
        lines = _read_from(log, start).split("\n")[:-1]
        for line in lines[told:]:
            if _STEP.fullmatch(line.strip()):
                progress(line.strip()[0].lower() + line.strip()[1:])
        told = len(lines)
        if process.returncode is not None:
            return


def _read_from(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")
