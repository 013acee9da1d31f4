"""The command itself: everything is checked, nothing is changed."""

from collections.abc import Iterator

import typer

from havre.cli import output
from havre.cli.doctor import isolation, programs, resources, state
from havre.cli.doctor.finding import Finding, Verdict
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.home import Home
from havre.operate import bringup
from havre.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check what this machine offers. Exit code 1 if something that havre needs is missing."""
    resolved_home = home_of(home)
    settings = load_settings(resolved_home.root, environ=bringup.environment(resolved_home))
    with output.progress("checking this machine"):
        findings = list(examine(resolved_home, settings))
    if as_json:
        output.print_json([finding.to_json() for finding in findings])
    else:
        rows = [(row.check, row.verdict, row.detail, row.remedy) for row in findings]
        output.print_table(("check", "verdict", "found", "remedy"), rows)
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(1)


def examine(home: Home, settings: Settings) -> Iterator[Finding]:
    yield from programs.examine(home, settings)
    yield from isolation.examine(home)
    yield from resources.examine(home, settings)
    yield from state.examine(home, settings)
