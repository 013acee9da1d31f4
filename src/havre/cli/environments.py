"""``havre env``: the inference environments of a home."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from havre.cli import output
from havre.cli.connection import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.domain.errors import InvalidParameter
from havre.environments import EnvironmentRow, Environments
from havre.environments.definition import BuiltEnvironment
from havre.environments.uv import Progress
from havre.settings import load_settings

environments_app = typer.Typer(
    no_args_is_help=True, help="Inference environments: list, build, publish and remove them."
)

Slug = Annotated[str, typer.Argument(help="The environment's name, as in runtime.yaml.")]


@environments_app.command("list")
def list_environments(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what artifacts may name, and what is built."""
    rows = _environments(home).list()
    if as_json:
        typer.echo(json.dumps([_row_json(row) for row in rows], indent=2))
        return
    output.print_table(
        ("slug", "python", "kind", "state", "title"),
        [(row.slug, row.python, row.kind, _state(row), row.title) for row in rows],
        fold=False,
    )


@environments_app.command()
def show(slug: Slug, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one environment: its Python, its packages and where it is."""
    row = _environments(home).show(slug)
    if as_json:
        typer.echo(json.dumps(_row_json(row), indent=2))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{row.slug}[/bold]  {row.title}")
    console.print(f"kind    {row.kind}\npython  {row.python}\nstate   {_state(row)}")
    if row.prefix:
        console.print(f"folder  {row.prefix}", soft_wrap=True)
    for line in row.requirements:
        console.print(f"  {line}", markup=False)


@environments_app.command()
def build(slug: Slug, home: HomeOption = None) -> None:
    """Build an environment now, so that the first deployment does not wait for it."""
    environments = _environments(home)
    with _progress(slug) as progress:
        built = environments.build(slug, progress)
    _tell(built)


@environments_app.command()
def publish(
    slug: Slug,
    requirements: Annotated[
        Path | None, typer.Option(help="A requirements file: locked to exact versions and built.")
    ] = None,
    prefix: Annotated[
        Path | None, typer.Option(help="An environment on this machine, used where it lies.")
    ] = None,
    python: Annotated[
        str, typer.Option(help="Python version, X.Y.", show_default="the default environment's")
    ] = "",
    home: HomeOption = None,
) -> None:
    """Publish an environment, so that artifacts can name it.

    Publishing a slug again replaces it for new deployments; running ones keep theirs.
    """
    if (requirements is None) == (prefix is None):
        raise InvalidParameter("give either --requirements FILE or --prefix DIR")
    environments = _environments(home)
    with _progress(slug) as progress:
        if prefix is not None:
            built = environments.publish_prefix(slug, prefix, python=python)
        else:
            assert requirements is not None
            built = environments.publish(slug, requirements, python=python, progress=progress)
    _tell(built)
    typer.echo("In runtime.yaml, below MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:")
    typer.echo(f"    INFERENCE_ENV_SLUG: {slug}\n    INFERENCE_ENV_TYPE: published")


@environments_app.command()
def remove(slug: Slug, home: HomeOption = None) -> None:
    """Remove what is built for an environment, and its slug if it was published here."""
    _environments(home).remove(slug)
    typer.echo(f"removed {slug}")


def _environments(home: Path | None) -> Environments:
    place = home_of(home)
    settings = load_settings(place.root)
    place.make()
    return Environments(place, settings)


@contextmanager
def _progress(slug: str) -> Iterator[Progress]:
    """A line per step, and something that moves while a step takes long."""
    console = Console(stderr=True, highlight=False)
    with console.status(f"{slug} …"):
        yield lambda line: console.print(line, markup=False)


def _tell(built: BuiltEnvironment) -> None:
    typer.echo(f"{built.slug} is ready: Python {built.python_version}, {built.prefix}")


def _state(row: EnvironmentRow) -> str:
    if row.prefix is not None:
        return "ready" if row.python_here else "broken: its Python is gone"
    return "not built" if row.python_here else f"needs Python {row.python}"


def _row_json(row: EnvironmentRow) -> dict[str, object]:
    return {
        "slug": row.slug,
        "kind": row.kind,
        "python": row.python,
        "title": row.title,
        "state": _state(row),
        "prefix": str(row.prefix) if row.prefix else None,
        "requirements": list(row.requirements),
    }
