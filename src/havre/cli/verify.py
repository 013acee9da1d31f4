"""`havre verify`: would this artifact deploy, and would the original service take it?"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from havre.catalog.archive import score_folder
from havre.catalog.manifest import FILE as MANIFEST
from havre.catalog.manifest import read_manifest, read_version
from havre.cli import output
from havre.cli.connection import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.cli.trial import Answer, Trial, started
from havre.domain.errors import HavreError, InvalidParameter
from havre.domain.instance import CheckRequest
from havre.domain.manifest import RuntimeManifest
from havre.environments import Environments
from havre.environments.definition import BuiltEnvironment
from havre.home import Home
from havre.settings import load_settings

PASSED = "passed"
WARNING = "warning"
FAILED = "failed"

ARTIFACT_VERSION = "3.0"
LONGEST_ANSWER = 300  # characters shown


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result. ``failed`` would stop a deployment here; a ``warning`` would not, but
    the original service's introspection would refuse it. Keys are those of its tests.
    """

    key: str
    state: str
    message: str = ""


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    folder: Annotated[Path, typer.Argument(help="The artifact: a folder with score.py in it.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A request's body to predict on.", show_default="the one that comes with it"
        ),
    ] = None,
    limit: Annotated[float, typer.Option(help="Seconds for loading, and for predicting.")] = 60.0,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are failures.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an artifact before it is deployed, in the environment that it would run in.

    Builds that environment if need be, loads the model and predicts on a sample. No server needed.
    """
    place = home_of(home)
    settings = load_settings(place.root)
    place.make()
    environments = Environments(place, settings)
    with output.progress(f"verifying {folder}") as step:
        checks = list(_checks(folder, data, environments, place, limit, step))
    if as_json:
        output.print_json([_to_json(check) for check in checks])
    else:
        rows = [(check.key, check.state, check.message) for check in checks]
        output.print_table(("check", "result", ""), rows)
    bad = {FAILED, WARNING} if strict else {FAILED}
    if any(check.state in bad for check in checks):
        raise typer.Exit(1)


def _checks(
    folder: Path,
    data: Path | None,
    environments: Environments,
    home: Home,
    limit_s: float,
    step: output.Step,
) -> Iterator[Check]:
    """Check after check, in the order of a deployment; the first failure is the last one."""
    if not folder.is_dir():
        raise InvalidParameter(f"{folder} is not a folder; give the one that has score.py in it")
    try:
        artifact = score_folder(folder)
        yield Check("score_py", PASSED)
        manifest = read_manifest(artifact)
    except HavreError as fault:
        is_manifest = (folder / "score.py").is_file()
        yield Check("runtime_yaml" if is_manifest else "score_py", FAILED, fault.message)
        return
    yield from _of_manifest(artifact, manifest)
    try:
        resolution = environments.resolve(manifest, artifact)
        built = environments.ensure(resolution, step)
    except HavreError as fault:
        yield Check("environment", FAILED, fault.message)
        return
    yield Check("environment", PASSED, f"{built.slug}, Python {built.python_version}")
    yield from _of_source(artifact / "score.py")
    step("loading the model")
    yield from _of_trial(artifact, built, home, limit_s, _given(data))


def _of_manifest(artifact: Path, manifest: RuntimeManifest) -> Iterator[Check]:
    if not (artifact / MANIFEST).is_file():
        yield Check("runtime_yaml", WARNING, f"there is no {MANIFEST}: a default is used")
        return
    yield Check("runtime_yaml", PASSED)
    version = read_version(artifact)
    if version == ARTIFACT_VERSION:
        yield Check("runtime_version", PASSED)
    else:
        said = f"MODEL_ARTIFACT_VERSION should be '{ARTIFACT_VERSION}', not {version!r}"
        yield Check("runtime_version", WARNING, said)
    for key, name, value in (
        ("runtime_env_python", "INFERENCE_PYTHON_VERSION", manifest.python),
        ("runtime_env_path", "INFERENCE_ENV_PATH", manifest.path),
    ):
        if value:
            yield Check(key, PASSED)
        else:
            yield Check(key, WARNING, f"{name} is not given")


def _of_source(score: Path) -> Iterator[Check]:
    """What the text alone tells. Its syntax is that of another Python, so no verdict on that."""
    try:
        tree = ast.parse(score.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # loading tells, in the words of the right Python
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "load_model" in functions:
        yield Check("score_load_model", PASSED)
    else:
        yield Check("score_load_model", WARNING, "score.py defines no load_model()")
    if predict := functions.get("predict"):
        first = [argument.arg for argument in (*predict.args.posonlyargs, *predict.args.args)][:1]
        if first == ["data"]:
            yield Check("score_predict_data", PASSED)
        else:
            found = first[0] if first else "missing"
            said = f"the first parameter of predict() should be called data, not {found}"
            yield Check("score_predict_data", WARNING, said)


def _of_trial(
    artifact: Path,
    built: BuiltEnvironment,
    home: Home,
    limit_s: float,
    given: CheckRequest | None,
) -> Iterator[Check]:
    with started(artifact, built, home, limit_s=limit_s) as trial:
        if failure := trial.failure():
            yield Check("score_syntax" if "SyntaxError" in failure else "load", FAILED, failure)
            return
        yield Check("score_syntax", PASSED)
        yield Check("score_predict", PASSED)
        yield Check("load", PASSED)
        request = given or trial.sample()
        if request is None:
            yield Check("predict", WARNING, "not tried: give --data FILE, or add test_input.json")
            return
        yield _told(trial.predict(request), trial)


def _told(answer: Answer, trial: Trial) -> Check:
    if answer.status == 200:
        text = answer.body
        shown = text if len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + " …"
        return Check("predict", PASSED, shown)
    return Check("predict", FAILED, f"{answer.status}: {answer.body}\n{trial.log_tail()}".strip())


def _given(data: Path | None) -> CheckRequest | None:
    if data is None:
        return None
    try:
        body = data.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"{data} cannot be read: {error.strerror}") from error
    is_json = data.suffix == ".json"
    return CheckRequest(body, "application/json" if is_json else "application/octet-stream")


def _to_json(check: Check) -> dict[str, str]:
    return {"key": check.key, "state": check.state, "message": check.message}
