"""`havre verify`: would this artifact deploy, and would the original service take it?"""

import ast
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from havre import temporary
from havre.catalog.archive import score_folder
from havre.catalog.manifest import FILE as MANIFEST
from havre.catalog.manifest import read_manifest, read_version
from havre.cli import output
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.cli.recording import Recording, record
from havre.domain.errors import HavreError, InvalidParameter
from havre.domain.instance import CheckRequest
from havre.domain.manifest import RuntimeManifest
from havre.domain.progress import Progress
from havre.domain.workload import PythonWorkload
from havre.engines.confinement import Permissions
from havre.engines.trial import KeeperTrial, TrialResponse, started
from havre.engines.variables import model_variables
from havre.environments import Environments
from havre.environments.libraries import lent_variables
from havre.environments.resolve import REQUIREMENTS, Resolution
from havre.home import Home
from havre.provenance import pythons_at_hand
from havre.settings import load_settings

PASSED = "passed"
WARNING = "warning"
FAILED = "failed"

ARTIFACT_VERSION = "3.0"
MAX_RESPONSE_CHARS = 300


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
            help="File with a request body to predict on.",
            show_default="the artifact's own sample",
        ),
    ] = None,
    limit: Annotated[
        float, typer.Option(help="Maximum seconds for loading, and for predicting.")
    ] = 60.0,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as failures.")] = False,
    environment: Annotated[
        str,
        typer.Option(help="Slug of the inference environment; overrides runtime.yaml."),
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an artifact before it is deployed, in the environment that it would run in.

    Builds that environment if necessary, loads the model and predicts on a sample. Needs no server.
    """
    resolved_home = home_of(home)
    settings = load_settings(resolved_home.root)
    resolved_home.make()
    environments = Environments(resolved_home, settings)

    def recorded(artifact: Path) -> Recording:
        chosen = settings.default_environment
        return record(artifact, slug=environment, default_slug=chosen, pythons=pythons_at_hand)

    with output.progress(f"verifying {folder}") as step:
        permissions = Permissions(settings.models_as_root, settings.models_unix_sockets)
        checks = list(
            _checks(folder, data, environments, resolved_home, permissions, limit, step, recorded)
        )
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
    permissions: Permissions,
    limit_s: float,
    step: Progress,
    recorded: Callable[[Path], Recording],
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
    yield from _manifest_checks(artifact, manifest)
    try:
        resolution = _resolve(environments, artifact, recorded(artifact), step)
        built = environments.ensure(resolution, step)
    except HavreError as fault:
        yield Check("environment", FAILED, fault.message)
        return
    yield Check("environment", PASSED, f"{built.slug}, Python {built.python_version}")
    yield from _source_checks(artifact / "score.py")
    step("loading the model")
    workload = PythonWorkload(built.interpreter, built.python_version, artifact)
    variables = model_variables(
        deployment_id="verify",
        tenancy_id="verify",
        workload=workload,
        user={},
        lent=lent_variables(built.interpreter),
    )
    with started(
        workload, home, variables=variables, limit_s=limit_s, permissions=permissions
    ) as trial:
        yield from _trial_checks(trial, _given(data), step)


def _resolve(
    environments: Environments, artifact: Path, recording: Recording, step: Progress
) -> Resolution:
    """As `havre deploy` does, with what it records of an artifact."""
    for line in recording.notes:
        step(line)
    with temporary.folder("verify") as stated:
        for name in (MANIFEST, REQUIREMENTS):
            if name in recording.files:
                (stated / name).write_bytes(recording.files[name])
            elif (artifact / name).is_file():
                shutil.copyfile(artifact / name, stated / name)
        return environments.resolve(read_manifest(stated), stated)


def _manifest_checks(artifact: Path, manifest: RuntimeManifest) -> Iterator[Check]:
    if not (artifact / MANIFEST).is_file():
        yield Check("runtime_yaml", WARNING, f"there is no {MANIFEST}: a default is used")
        return
    if manifest.warnings:
        yield Check("runtime_yaml", WARNING, "; ".join(manifest.warnings))
    else:
        yield Check("runtime_yaml", PASSED)
    version = read_version(artifact)
    if version == ARTIFACT_VERSION:
        yield Check("runtime_version", PASSED)
    else:
        message = f"MODEL_ARTIFACT_VERSION should be '{ARTIFACT_VERSION}', not {version!r}"
        yield Check("runtime_version", WARNING, message)
    for key, name, value in (
        ("runtime_env_python", "INFERENCE_PYTHON_VERSION", manifest.python),
        ("runtime_env_path", "INFERENCE_ENV_PATH", manifest.path),
    ):
        if value:
            yield Check(key, PASSED)
        else:
            yield Check(key, WARNING, f"{name} is not given")


def _source_checks(score: Path) -> Iterator[Check]:
    """Checks of the text alone. Its syntax is another Python's, so that is not judged here."""
    try:
        tree = ast.parse(score.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return  # loading reports it, in the words of the right Python
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
            name = first[0] if first else "missing"
            message = f"the first parameter of predict() should be called data, not {name}"
            yield Check("score_predict_data", WARNING, message)


def _trial_checks(
    trial: KeeperTrial, given: CheckRequest | None, step: Progress
) -> Iterator[Check]:
    for note in trial.notes:
        step(f"not enforced here: {note}")
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
    yield _prediction_check(trial.predict(request), trial)


def _prediction_check(response: TrialResponse, trial: KeeperTrial) -> Check:
    if response.status == 200:
        text = response.body
        shown = text if len(text) <= MAX_RESPONSE_CHARS else text[:MAX_RESPONSE_CHARS] + " …"
        return Check("predict", PASSED, shown)
    return Check(
        "predict", FAILED, f"{response.status}: {response.body}\n{trial.log_tail()}".strip()
    )


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
