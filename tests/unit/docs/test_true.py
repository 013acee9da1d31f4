"""Sentences of the pages that say what havre does not do, and what it does by itself."""

import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.support.documents import DOCS, ROOT, pages

from havre.api.app import create_app
from havre.domain.metrics import METRICS
from havre.home import Home
from havre.telemetry.logs.rotation import LogRotation

MISSING = re.compile(
    r"\b(there (is|are) no|(does|do|can|is|are) not)\b[^.|]*\byet\b", re.IGNORECASE
)

KNOWN = (
    "There is no tool for it yet",  # to move from SQLite to PostgreSQL
    "There are no metrics of GPUs yet",
    "`-` means that there is no figure yet",
    "if it is not running yet",
    "## What it does not do yet",
)
"""Looked at, and true. Whoever builds what is missing meets the sentence in its page."""


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_that_something_is_missing_only_where_it_was_looked_at(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    for found in MISSING.finditer(text):
        around = text[max(0, found.start() - 60) : found.end()]
        assert any(sentence in around for sentence in KNOWN), f"is it so, still? {around}"


def test_there_are_no_metrics_of_gpus() -> None:
    assert not any("gpu" in metric.name.lower() for metric in METRICS), "reference/metrics.md"


def test_what_the_service_page_says_of_watching_is_so(tmp_path: Path) -> None:
    page = (DOCS / "howto" / "run-as-a-service.md").read_text(encoding="utf-8")
    assert "`GET /metrics`" in page
    assert "/metrics" in create_app(Mock()).openapi()["paths"]
    assert "rotated at 16 MB" in page
    home = Home(tmp_path)
    home.make()
    (home.logs / "load-balancer.log").write_bytes(bytes(16 * 1024 * 1024 + 1))
    LogRotation(home).collect(10**12)
    assert (home.logs / "load-balancer.log").stat().st_size == 0


def test_a_file_that_the_home_page_names_is_so_named_by_the_code() -> None:
    page = (DOCS / "reference" / "home.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    names = set(re.findall(r"`(?:[\w<>-]+/)*([a-z_]+\.(?:json|pem|toml|sock|sqlite3|lock))`", page))
    assert {"routes.json", "server.json", "commands.pem", "retention.json"} <= names
    assert {name for name in names if f'{name}"' not in code} - {"copy.json"} == set()
