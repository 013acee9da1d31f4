"""Operations that clients know and this server does not have.

Their lists are empty, so that tools which look around find nothing; everything else is refused with
501, the one 5xx that the SDK does not try again.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from havre.api.services import Deps
from havre.domain.errors import NotImplementedHere
from havre.store.deployments import find

ARRAYS = frozenset(
    {
        "computeTargetShapes",
        "computeTargets",
        "containers",
        "dataSciencePrivateEndpoints",
        "fastLaunchJobConfigs",
        "jobRuns",
        "jobShapes",
        "jobs",
        "modelGroupVersionHistory",
        "modelGroups",
        "notebookSessionShapes",
        "notebookSessions",
        "pipelineRuns",
        "pipelines",
        "schedules",
    }
)
COLLECTIONS = frozenset(
    {
        "mlApplicationImplementationVersions",
        "mlApplicationImplementations",
        "mlApplicationInstanceViews",
        "mlApplicationInstances",
        "mlApplications",
    }
)
"""Lists that come wrapped, as ``{"items": [...]}``."""

OF_LOGGING = frozenset({"logSavedSearches", "unifiedAgentConfigurations"})
"""The same below /20200531."""

MODEL_ACTIONS = ("exportArtifact", "importArtifact", "registerArtifactReference", "restore")
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]

router = APIRouter(include_in_schema=False)


async def _refuse_for_models() -> Response:
    raise NotImplementedHere(
        "this server keeps artifacts itself: export, import, references, restoring from an archive "
        "and signatures are not available; use POST and GET /20190101/models/{id}/artifact"
    )


@router.get("/20190101/modelDeployments/{deployment_id}/models/modelState")
def _refuse_model_states(deployment_id: str, here: Deps) -> Response:
    with here.database.read() as session:
        find(session, deployment_id)
    raise NotImplementedHere(
        "model groups are not available on this server yet: a deployment has one model, "
        "and its lifecycleState is the model's"
    )


def _listing(empty: object) -> Callable[[], Awaitable[Response]]:
    async def list_nothing() -> Response:
        return JSONResponse(empty)

    return list_nothing


def _refusal(noun: str) -> Callable[[], Awaitable[Response]]:
    async def refuse() -> Response:
        raise NotImplementedHere(
            f"this server runs model deployments and their catalog; it has no {noun}"
        )

    return refuse


def _add_routes() -> None:
    model = "/20190101/models/{model_id}"
    for action in MODEL_ACTIONS:
        router.add_api_route(f"{model}/actions/{action}", _refuse_for_models, methods=["POST"])
    router.add_api_route(f"{model}/artifactSignatures", _listing([]), methods=["GET"])
    router.add_api_route(
        f"{model}/artifactSignatures{{rest:path}}", _refuse_for_models, methods=METHODS
    )
    for noun in sorted(ARRAYS | COLLECTIONS | OF_LOGGING):
        empty: object = [] if noun in ARRAYS else {"items": []}
        root = f"/{'20200531' if noun in OF_LOGGING else '20190101'}/{noun}"
        router.add_api_route(root, _listing(empty), methods=["GET"])
        for path in (root, f"{root}/{{rest:path}}"):
            router.add_api_route(path, _refusal(noun), methods=METHODS)


_add_routes()
