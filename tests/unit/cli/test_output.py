"""A terminal is shown no commands of others."""

import io

import pytest
from rich.console import Console

from havre.cli import output
from havre.cli.captured import _row

HOSTILE = "a\x1b[2J\x1b]0;owned\x07b\nname\tURL\r\x9b31m\u202eevil\u2028 [red]c[/x] é\ud800"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07b\nname\tURL\r\x9b31m\u202eevil\u2028 [red]c[/x] é\ud800"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    file = io.StringIO()
    options = {"file": file, "width": 500, "force_terminal": True, "color_system": None}
    monkeypatch.setattr(output, "Console", lambda **_: Console(**options))
    monkeypatch.setattr(output, "console", Console(soft_wrap=True, **options))
    monkeypatch.setattr(output, "errors", Console(soft_wrap=True, **options))
    return file


def test_who_does_not_serve_has_a_reason_below_the_table(printed: io.StringIO) -> None:
    rows = [
        {"displayName": "a", "lifecycleState": "NEEDS_ATTENTION", "lifecycleDetails": "no memory"},
        {"displayName": "b", "lifecycleState": "FAILED", "lifecycleDetails": "no score.py"},
        {"displayName": "c", "lifecycleState": "ACTIVE", "lifecycleDetails": "an update failed"},
        {"displayName": "d", "lifecycleState": "INACTIVE", "lifecycleDetails": None},
    ]
    output.print_reasons(rows)
    assert printed.getvalue().splitlines() == [
        "a is NEEDS_ATTENTION: no memory",
        "b is FAILED: no score.py",
    ]


def test_a_name_stays_in_its_line(printed: io.StringIO) -> None:
    output.print_table(("name", "state"), [(HOSTILE, "ACTIVE"), ("b", "[bold]")], fold=False)
    lines = printed.getvalue().splitlines()
    assert [line.split() for line in lines][1:] == [[*SHOWN.split(" "), "ACTIVE"], ["b", "[bold]"]]


def test_what_has_lines_keeps_them(printed: io.StringIO) -> None:
    output.print_table(("check", ""), [("a", "one\ntwo \x1b[1m [x]")])
    output.print_text("three\n\x1b[2J [/y]")
    output.print_fault(f"no {HOSTILE}")
    text = printed.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    for whole in (
        "one",
        r"two \x1b[1m [x]",
        "three",
        r"\x1b[2J [/y]",
        r"a\x1b[2J\x1b]0;owned\x07b",
    ):
        assert whole in text


def test_what_was_captured_is_shown_as_it_is(printed: io.StringIO) -> None:
    about = {"time": 0, "status": 200, "model_us": 1, "is_stream": False}
    bodies = {"request": "[bold]\x1b[2J", "request_bytes": 9, "response": "b", "response_bytes": 1}
    output.print_table(("request",), [_row({**about, **bodies})[3:4]], fold=False)
    assert r"[bold]\x1b[2J" in printed.getvalue()


def test_what_is_printable_stays() -> None:
    for text in ("", "iris", "Größe, 数据 ✓ 😀"):
        assert output.one_line(text) == output.fit_for_terminal(text) == text
