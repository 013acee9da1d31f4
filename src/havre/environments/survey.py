"""Which environments of a home lack libraries of the system, now: the machine may have changed."""

from collections.abc import Iterator
from pathlib import Path

from havre.domain.errors import HavreError
from havre.environments.confinement import Enclosure
from havre.environments.definition import ExternalEnvironment
from havre.environments.java import java_warnings
from havre.environments.libraries import lacking, system_libraries, warnings
from havre.environments.prefix_contents import read_marker
from havre.environments.published import PublishedEnvironments
from havre.home import Home


def survey(home: Home) -> list[tuple[str, str]]:
    """What lacks what, and what to install: a pair of half sentences for each. Runs nothing."""
    system = system_libraries()
    pairs = []
    for slug, prefix in _environments(home):
        for line in (*warnings(lacking(prefix, system=system)), *java_warnings(prefix)):
            problem, _, remedy = line.rpartition("; ")
            pairs.append((f"{slug}: {problem}", remedy))
    return pairs


def _environments(home: Home) -> Iterator[tuple[str, Path]]:
    """What is built, and what is used where it lies."""
    for prefix in sorted((home.environments / "built").glob("*")):
        marker = read_marker(prefix)
        if marker is not None:
            yield str(marker.get("slug", prefix.name)), prefix
    try:
        records = PublishedEnvironments(home, Enclosure(home)).all()
    except HavreError:
        return  # what needs the record reports that it is damaged
    for slug, record in records.items():
        if isinstance(record.definition, ExternalEnvironment):
            yield slug, record.definition.prefix
