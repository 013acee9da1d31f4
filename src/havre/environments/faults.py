"""Turns uv's errors into one sentence for the person who wrote the requirements."""

import re
from pathlib import Path

from havre import full_disk

USUAL_BYTES = 1_000_000_000
"""What an environment takes of the disk, about: those built in take 0.4 to 2 GB."""
_HINT = re.compile(r"^(hint|warning):", re.IGNORECASE)
_FRAME = " \t×╰─▶│├"
"""What older versions of uv draw around their words."""

_NETWORK = (
    "error sending request",
    "dns error",
    "connection refused",
    "connection reset",
    "timed out",
    "network is unreachable",
    "failed to connect",
    "network was disabled",
)
_CERTIFICATE = "invalid peer certificate"
_ERROR = re.compile(r"error:|No solution found|Failed to ")
_DISK = ("no space left on device", "disk quota exceeded", "file too large (os error")
_TOOLS = ("no such file or directory (os error 2)", "gcc", "cc1", "cargo", "cmake")


def explain(output: str, *, python: str, folder: Path) -> str:
    """The sentence: what is wrong with the requirements or the machine, and what to do.

    ``output`` is all that uv printed; ``python`` is the version built for (``3.8``),
    ``folder`` where environments are.
    """
    lines = [line for raw in output.splitlines() if (line := raw.strip(_FRAME))]
    reason = _from_error(lines)
    whole = " ".join(lines)
    lowered = whole.lower()
    if any(sign in lowered for sign in _DISK):
        problem = full_disk.message(_full_folder(whole) or folder, needed=USUAL_BYTES)
        return f"{problem}; make room and try again"
    if missing := re.search(r"[Bb]ecause (\S+) was not found in the package registry", whole):
        return f"the package index has no package {missing[1]!r}: check its name"
    if local := re.search(r"no version of (\S+\+\w+)", whole):
        return (
            f"the package index has no {local[1]}, a build that its maker keeps on an index of its "
            "own: name that index in UV_INDEX, or a folder that holds it in UV_FIND_LINKS, where "
            "the server is started"
        )
    if wheel := re.search(r"(\S+) has no (?:usable )?wheels", whole):
        return (
            f"{wheel[1]} has no ready-made package (wheel) for Python {python} on this machine: "
            "choose a version that has one"
        )
    if _CERTIFICATE in lowered:
        return (
            "the package index shows a certificate that is not known here, as a company's proxy "
            "does: put its maker's among the system's certificates, or name a file with it in "
            "SSL_CERT_FILE, where the server is started; UV_SYSTEM_CERTS=0 has uv's own "
            f"certificates used instead of the system's. uv says: {reason}"
        )
    if any(sign in lowered for sign in _NETWORK):
        return (
            "the package index cannot be reached: check the network, or the proxy and index "
            f"variables (HTTPS_PROXY, UV_DEFAULT_INDEX). uv says: {reason}"
        )
    if "No solution found" in whole:
        return f"the requirements cannot be met together: {_conflict(reason)}"
    if "parse requirement" in lowered or "unexpected" in lowered:
        return f"the requirements cannot be read: {reason}"
    if failed := re.search(r"Failed to build:? `?([^`\s]+)`?", whole):
        return (
            f"{failed[1]} had to be compiled for Python {python} and that failed: choose a version "
            f"with a ready-made package (wheel){_compiler(lowered)}"
        )
    return reason or "uv ended without saying why"


def _full_folder(whole: str) -> Path | None:
    """Where there was no room: the last folder that is named, uv's cache perhaps."""
    before = re.split("|".join(map(re.escape, _DISK)), whole, flags=re.IGNORECASE)[0]
    named = re.findall(r"/[^\s`'\":]+", before)
    return Path(named[-1]).parent if named else None


def _from_error(lines: list[str]) -> str:
    """From the first error on, without hints: the part a reader needs."""
    start = next((i for i, line in enumerate(lines) if _ERROR.match(line)), None)
    if start is None:
        return " ".join(lines[-3:])[:600]
    kept = []
    for line in lines[start:]:
        if _HINT.match(line):
            break
        kept.append(re.sub(r"^(error|cause):\s*", "", line))
    return " ".join(kept)[:1200]


def _conflict(reason: str) -> str:
    chain = (
        reason.partition("No solution found when resolving dependencies")[2].lstrip(": ") or reason
    )
    chain = re.sub(
        r",? we can conclude that your requirements are unsatisfiable\.?", "", chain
    ).strip()
    return chain.replace("And because", "and because").rstrip(".")


def _compiler(lowered: str) -> str:
    return ", or install the compiler it asks for" if any(s in lowered for s in _TOOLS) else ""
