"""The bytes of models and of their metadata over HTTP."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from havre.api import downloads
from havre.api.conditions import IfMatch, RetryToken, require_match
from havre.api.responses import make_response
from havre.api.services import Deps, Services
from havre.api.uploads import (
    Upload,
    inspect_model,
    inspect_nothing,
    receive_upload,
    release_bytes,
)
from havre.store import catalog, model_artifacts
from havre.store.deployments import MODEL_SLOT
from havre.store.model_artifacts import CUSTOM, DEFINED, metadata_slot
from havre.store.schema import Artifact, Model

Range = Annotated[str | None, Header(alias="range")]


class Family(StrEnum):
    """The two lists of metadata, as paths call them."""

    CUSTOM = "customMetadata"
    DEFINED = "definedMetadata"


BINARY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""Bodies that are streamed are not parameters: the description of the API needs them stated."""

METADATUM = "/{model_id}/{family}/{key:path}/artifact"

router = APIRouter(prefix="/20190101/models", tags=["artifacts"])


@router.post("/{model_id}/artifact", status_code=204, openapi_extra=BINARY)
async def create_model_artifact(
    model_id: str, request: Request, here: Deps, token: RetryToken, if_match: IfMatch = None
) -> Response:
    """The body is the zip archive itself, whatever its content type says."""
    upload = Upload(model_id, MODEL_SLOT, inspect_model, if_match=if_match, token=token)
    return await receive_upload(request, here, upload)


@router.get("/{model_id}/artifact/content", response_class=Response)
def get_model_artifact_content(model_id: str, here: Deps, stated_range: Range = None) -> Response:
    return downloads.send(_find(here, model_id, MODEL_SLOT), here.artifacts, stated_range)


@router.head("/{model_id}/artifact/content")
def head_model_artifact(model_id: str, here: Deps) -> Response:
    return downloads.describe(_find(here, model_id, MODEL_SLOT))


@router.get(METADATUM + "/content", response_class=Response)
def get_metadatum_artifact_content(
    model_id: str, family: Family, key: str, here: Deps, stated_range: Range = None
) -> Response:
    return downloads.send(_find(here, model_id, _slot(family, key)), here.artifacts, stated_range)


@router.head(METADATUM + "/content")
def head_metadatum_artifact(model_id: str, family: Family, key: str, here: Deps) -> Response:
    return downloads.describe(_find(here, model_id, _slot(family, key)))


@router.post(METADATUM, status_code=204, openapi_extra=BINARY)
async def create_metadatum_artifact(
    model_id: str,
    family: Family,
    key: str,
    request: Request,
    here: Deps,
    token: RetryToken,
    if_match: IfMatch = None,
) -> Response:
    slot = _slot(family, key)
    upload = Upload(model_id, slot, inspect_nothing, if_match=if_match, token=token)
    return await receive_upload(request, here, upload)


@router.put(METADATUM, status_code=204, openapi_extra=BINARY)
async def update_metadatum_artifact(
    model_id: str,
    family: Family,
    key: str,
    request: Request,
    here: Deps,
    if_match: IfMatch = None,
) -> Response:
    slot = _slot(family, key)
    upload = Upload(model_id, slot, inspect_nothing, replaces=True, if_match=if_match)
    return await receive_upload(request, here, upload)


@router.delete(METADATUM, status_code=204)
def delete_metadatum_artifact(
    model_id: str, family: Family, key: str, here: Deps, if_match: IfMatch = None
) -> Response:
    with here.database.write() as session:
        model = catalog.find_for_change(session, Model, model_id)
        require_match(if_match, model)
        model_artifacts.drop(session, model, _slot(family, key))
    release_bytes(here)
    return make_response(status=204, row=model)


def _slot(family: Family, key: str) -> str:
    return metadata_slot(CUSTOM if family is Family.CUSTOM else DEFINED, key)


def _find(here: Services, model_id: str, slot: str) -> Artifact:
    with here.database.read() as session:
        model = catalog.find(session, Model, model_id)
        return model_artifacts.find_artifact(session, model, slot)
