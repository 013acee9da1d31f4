"""Reads the names of the original service's environments: family, Python, device.

Its public list is ``definitions/oracle_slugs.tsv``; a slug that is not there is read by its parts,
and a path whose slug is a placeholder by its words ("ONNX 1.10 for CPU on Python 3.7").
"""

import re
from functools import cache
from importlib.resources import files
from urllib.parse import unquote

from havre.environments.definition import ServiceSlug, parse_service_slug

NO_FAMILY = "-"

_BASE = "python"
"""The family of the environments that are for CPUs and GPUs alike."""

_PYTHON_IN_PATH = re.compile(r"python[_ -]?(3\.\d{1,2})", re.IGNORECASE)
_GPU_IN_PATH = re.compile(r"\bgpus?\b", re.IGNORECASE)
_FAMILY_IN_PATH = {
    "generalml": re.compile(r"general[ _-]?(machine|ml)", re.IGNORECASE),
    "onnx110": re.compile(r"onnx[ _-]?1\.10\b", re.IGNORECASE),
    "onnx": re.compile(r"\bonnx", re.IGNORECASE),
    "tensorflow": re.compile(r"\b(tensorflow|keras)", re.IGNORECASE),
    "pyspark": re.compile(r"\bpyspark", re.IGNORECASE),
    "forecast": re.compile(r"\b(ai[ _-])?forecast", re.IGNORECASE),
    _BASE: re.compile(r"\bbase[ _-](python|environment)", re.IGNORECASE),
    "pytorch": re.compile(r"\b(py)?torch", re.IGNORECASE),
    "sklearnex": re.compile(r"\b(scikit-learn|sklearn)", re.IGNORECASE),
}
_SAME_FAMILY = {"onnxruntime": "onnx", "armml": "generalml"}


def read_slug(slug: str) -> ServiceSlug | None:
    """The parts of a slug, as the list has it or as it is built; None if it is like none."""
    listed = _listed().get(slug)
    parsed = parse_service_slug(slug)
    if listed is None:
        return parsed
    device = parsed.device if parsed else "gpu" if "gpu" in slug else "cpu"
    return ServiceSlug(listed[0], listed[1], device, parsed.processor if parsed else "")


def read_path(path: str) -> ServiceSlug | None:
    """Family, Python (empty if it names none) and device by the words of a path; None without."""
    words = unquote(path)
    family = next((name for name, sign in _FAMILY_IN_PATH.items() if sign.search(words)), "")
    if not family:
        return None
    device = "gpu" if _GPU_IN_PATH.search(words) else "cpu"
    return ServiceSlug(family, python_in(words), "any" if family == _BASE else device)


def python_in(path: str) -> str:
    """The Python version that a path names in words (``Python 3.7``), or empty."""
    match = _PYTHON_IN_PATH.search(unquote(path))
    return match[1] if match else ""


def like_families(family: str) -> tuple[str, ...]:
    """The families that can stand in for one, best first: ``onnx110`` itself, then ``onnx``."""
    general = stem(family)
    return tuple(dict.fromkeys((family, general, _SAME_FAMILY.get(general, general))))


def stem(family: str) -> str:
    """The library that a family is of, without its version: ``onnx110`` is ``onnx``."""
    return family.rstrip("0123456789")


@cache
def _listed() -> dict[str, tuple[str, str]]:
    text = files(__package__).joinpath("definitions", "oracle_slugs.tsv").read_text()
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {slug: (family, python) for slug, family, python, _ in rows}
