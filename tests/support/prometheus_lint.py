"""What `promtool check metrics` looks for, and what havre promises beyond: see `problems`."""

import re
import shutil
import subprocess

from prometheus_client.parser import text_string_to_metric_families

# Base units only: https://prometheus.io/docs/practices/naming/
_OTHER_UNITS = re.compile(
    r"(?:^|_)(?:ns|us|ms|milliseconds|microseconds|nanoseconds|minutes|hours|days|kb|mb|gb|"
    r"kilobytes|megabytes|gigabytes|bits|mbps|percent|percentage)(?:_|$)"
)
_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
_LABEL = re.compile(r"[a-z][a-z_]*")
_GIVEN_BY_PROMETHEUS = {"job", "instance", "le", "quantile"}
_OF_INSTANCES = re.compile(r"[0-9a-f]{12}")
"""Ids of instances come and go: a series for each would never end."""


def problems(text: str) -> list[str]:
    """A sentence for each rule that is broken; a text that cannot be parsed raises ValueError."""
    found = []
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for family in text_string_to_metric_families(text):
        found += _of_name(family)
        if not family.samples:
            found.append(f"{family.name} has no series")
        for sample in family.samples:
            found += _of_sample(family, sample)
            series = (sample.name, tuple(sorted(sample.labels.items())))
            if series in seen:
                found.append(f"{series} is there twice")
            seen.add(series)
        if family.type == "histogram":
            found += _of_histogram(family)
    return found + _of_promtool(text)


def series_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each series, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _of_name(family) -> list[str]:
    """Its name, its help and its type."""
    name, found = family.name, []
    if not family.documentation:
        found.append(f"{name} has no help")
    if not re.fullmatch(r"havre_[a-z][a-z_]*", name):
        found.append(f"{name} is not in snake case after our prefix")
    if _OTHER_UNITS.search(name):
        found.append(f"{name} is not in a base unit")
    if family.type not in ("counter", "gauge", "histogram"):
        found.append(f"{name} is {family.type}")
    if family.type != "counter" and name.endswith("_total"):
        found.append(f"{name} is no counter")
    if family.type != "histogram" and name.endswith(_OF_HISTOGRAMS):
        found.append(f"{name} is no histogram")
    return found


def _of_sample(family, sample) -> list[str]:
    found = []
    labels = dict(sample.labels)
    if family.type == "counter" and not sample.name.endswith("_total"):
        found.append(f"{sample.name} is a counter without _total")
    if family.type == "histogram":
        labels.pop("le", None)
    for label, value in labels.items():
        if not _LABEL.fullmatch(label) or label in _GIVEN_BY_PROMETHEUS:
            found.append(f"{family.name} has the label {label}")
        if _OF_INSTANCES.fullmatch(value):
            found.append(f"{family.name} has a series for each instance: {value}")
    return found


def _of_histogram(family) -> list[str]:
    found = []
    groups: dict[frozenset, list[tuple[float, float]]] = {}
    counts: dict[frozenset, float] = {}
    for sample in family.samples:
        labels = frozenset((key, value) for key, value in sample.labels.items() if key != "le")
        if sample.name.endswith("_bucket"):
            groups.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    for labels, buckets in groups.items():
        values = [value for _, value in sorted(buckets)]
        if sorted(buckets) != buckets or values != sorted(values):
            found.append(f"{family.name} is not cumulative")
        if buckets[-1][0] != float("inf") or buckets[-1][1] != counts.get(labels):
            found.append(f"{family.name} has no whole +Inf bucket")
    return found


def _of_promtool(text: str) -> list[str]:
    """The original, where the machine has it."""
    program = shutil.which("promtool")
    if program is None:
        return []
    done = subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else [done.stdout + done.stderr]
