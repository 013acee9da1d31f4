"""``havre env``: the inference environments of a home."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from havre.cli import output
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.domain.errors import InvalidParameter
from havre.domain.progress import Progress
from havre.environments import EnvironmentRow, Environments
from havre.environments.definition import BuiltEnvironment
from havre.settings import load_settings

environments_app = typer.Typer(
    no_args_is_help=True,
    help="Inference environments: list, build, publish, check and remove them.",
)

Slug = Annotated[str, typer.Argument(help="The environment's slug, as in runtime.yaml.")]


@environments_app.command("list")
def list_environments(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the environments that artifacts may name, and which of them are built."""
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
    output.print_text(f"{row.slug}  {row.title}")
    output.print_text(f"kind    {row.kind}\npython  {row.python}\nstate   {_state(row)}")
    if row.prefix:
        output.print_text(f"folder  {row.prefix}")
    for line in row.requirements:
        output.print_text(f"  {line}")


@environments_app.command()
def build(slug: Slug, home: HomeOption = None) -> None:
    """Build an environment now, so that the first deployment need not wait for it."""
    environments = _environments(home)
    with _progress(slug) as progress:
        built = environments.build(slug, progress)
    _print_built(built)


@environments_app.command()
def publish(
    slug: Slug,
    requirements: Annotated[
        Path | None, typer.Option(help="Requirements file; locked to exact versions and built.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Archive made by conda-pack or 'havre env export'; unpacked."),
    ] = None,
    prefix: Annotated[
        Path | None, typer.Option(help="Environment on this machine; used in place.")
    ] = None,
    python: Annotated[
        str, typer.Option(help="Python version, X.Y.", show_default="the default environment's")
    ] = "",
    home: HomeOption = None,
) -> None:
    """Publish an environment, so that artifacts can name it.

    Publishing a slug again replaces it for new deployments; running ones keep theirs.
    """
    if [requirements, pack, prefix].count(None) != 2:
        raise InvalidParameter("give one of --requirements FILE, --pack FILE and --prefix DIR")
    environments = _environments(home)
    with _progress(slug) as progress:
        if pack is not None:
            built = environments.publish_pack(slug, pack, python=python, progress=progress)
        elif prefix is not None:
            built = environments.publish_prefix(slug, prefix, python=python, progress=progress)
        else:
            assert requirements is not None
            built = environments.publish(slug, requirements, python=python, progress=progress)
    _print_built(built)
    typer.echo("In runtime.yaml, below MODEL_DEPLOYMENT:\n  INFERENCE_CONDA_ENV:")
    typer.echo(f"    INFERENCE_ENV_SLUG: {slug}\n    INFERENCE_ENV_TYPE: published")


@environments_app.command()
def remove(slug: Slug, home: HomeOption = None) -> None:
    """Remove what is built for an environment, and its slug if it was published here."""
    _environments(home).remove(slug)
    typer.echo(f"removed {slug}")


@environments_app.command()
def clone(
    slug: Slug,
    output: Annotated[Path, typer.Option(help="The requirements file to write.")],
    home: HomeOption = None,
) -> None:
    """Write an environment's packages to a requirements file, to change and publish."""
    environments = _environments(home)
    count = environments.clone(slug, output)
    python = environments.show(slug).python
    typer.echo(f"{output} names the {count} packages of {slug}. When you have changed it:")
    typer.echo(f"  havre env publish NAME --requirements {output} --python {python}")


@environments_app.command()
def export(
    slug: Slug,
    output: Annotated[Path, typer.Option(help="The pack to write, a .tar.gz.")],
    home: HomeOption = None,
) -> None:
    """Write an environment with its Python to a pack, for another machine."""
    environments = _environments(home)
    with _progress(slug) as progress:
        size = environments.export(slug, output, progress)
    typer.echo(f"{output} holds {slug}: {size / 1e6:.0f} MB")


@environments_app.command()
def verify(slug: Slug, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check that an environment runs, and that its packages are compatible and importable."""
    environments = _environments(home)
    with _progress(slug) as progress:
        findings = list(environments.inspect(slug, progress))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    for finding in findings if not as_json else ():
        typer.echo(f"{'FAILED' if finding.problem else 'passed'}  {finding.subject}")
        if finding.problem:
            typer.echo(f"        {finding.problem}")
    if any(finding.problem for finding in findings):
        raise typer.Exit(1)


@environments_app.command()
def clean(home: HomeOption = None) -> None:
    """Remove built environments that nothing uses; they are built again when needed.

    Published environments, and those that an instance uses, are kept.
    """
    removed = _environments(home).clean()
    for name in removed:
        typer.echo(f"removed {name}")
    if not removed:
        typer.echo("nothing to remove")


def _environments(home: Path | None) -> Environments:
    resolved_home = home_of(home)
    settings = load_settings(resolved_home.root)
    resolved_home.make()
    return Environments(resolved_home, settings)


@contextmanager
def _progress(slug: str) -> Iterator[Progress]:
    """A line per step, and something that moves while a step takes long."""
    console = Console(stderr=True, highlight=False)
    with console.status(f"{slug} …"):
        yield lambda line: console.print(line, markup=False)


def _print_built(built: BuiltEnvironment) -> None:
    typer.echo(f"{built.slug} is ready: Python {built.python_version}, {built.prefix}")


def _state(row: EnvironmentRow) -> str:
    if row.prefix is not None:
        return "broken: its Python is gone" if row.needs.startswith("Python") else "ready"
    return f"needs {row.needs}" if row.needs else "not built"


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
