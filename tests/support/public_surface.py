"""What users meet by name, as one text: commands with their options, settings, metrics, Python.

    .venv/bin/python -m tests.support.public_surface

writes it to ``tests/unit/public_surface.txt``, which a test compares: a name that users rely on
changes on purpose, or not at all.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import havre
from havre.cli.main import app
from havre.client import Client
from havre.domain.metrics import METRICS
from havre.settings_table import GROUPS

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "unit" / "public_surface.txt"
_PROMETHEUS_NAME = re.compile(r"havre_[a-z0-9_]+")


def surface() -> str:
    sections = {
        "Commands": commands("havre", typer.main.get_command(app)),
        "Settings": settings(),
        "Metrics of Prometheus": prometheus_metrics(),
        "Metrics of Monitoring": monitoring_metrics(),
        "Python": python(),
    }
    return (
        "\n\n".join(f"# {title}\n" + "\n".join(lines) for title, lines in sections.items()) + "\n"
    )


def commands(name: str, command: Any) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for child in children:
        yield from commands(f"{name} {child}", children[child])
    if not children:
        arguments = [
            param.name.upper() if param.required else f"[{param.name.upper()}]"
            for param in command.params
            if param.param_type_name == "argument"
        ]
        options = sorted(
            "/".join([*param.opts, *param.secondary_opts])
            for param in command.params
            if param.param_type_name == "option"
        )
        yield " ".join([name, *arguments, *options])


def settings() -> Iterator[str]:
    for group in GROUPS.values():
        for setting in group:
            choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
            yield f"{setting.name}: {setting.kind_name}{choices}"


def prometheus_metrics() -> list[str]:
    """As they are declared: counters have ``_total`` behind that."""
    folder = ROOT / "src" / "havre" / "telemetry" / "metrics"
    return sorted(
        {
            node.value
            for module in folder.glob("*.py")
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _PROMETHEUS_NAME.fullmatch(node.value)
        }
    )


def monitoring_metrics() -> Iterator[str]:
    for metric in METRICS:
        yield f"{metric.name} ({metric.unit}) by {', '.join(metric.dimensions)}"


def python() -> Iterator[str]:
    for name in havre.__all__:
        value = getattr(havre, name)
        yield f"havre.{name}{_parameters(value) if callable(value) else ''}"
    yield f"havre.client.Client{_parameters(Client)}"
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            yield f"havre.client.Client.{name}{_parameters(method)}"


def _parameters(value: Any) -> str:
    """Without types, which Pythons print differently; of a default only whether there is one."""
    empty = inspect.Parameter.empty
    parameters = [
        parameter.replace(
            annotation=empty, default=empty if parameter.default is empty else Ellipsis
        )
        for name, parameter in inspect.signature(value).parameters.items()
        if name != "self"
    ]
    return str(inspect.Signature(parameters)).replace("Ellipsis", "...")


if __name__ == "__main__":
    FILE.write_text(surface(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(ROOT)}")
