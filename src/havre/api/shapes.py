"""The shapes a deployment may have here."""

from fastapi import APIRouter, Response

from havre.api.listing import CompartmentId, Pages
from havre.api.responses import make_response
from havre.api.services import Deps
from havre.contract.shapes import ModelDeploymentShapeSummary
from havre.domain.capacity import Machine, gpus_of
from havre.domain.errors import InvalidParameter
from havre.domain.shape import SHAPES, Shape

router = APIRouter(prefix="/20190101/modelDeploymentShapes", tags=["shapes"])


@router.get("")
def list_model_deployment_shapes(
    here: Deps,
    paging: Pages,
    compartment_id: CompartmentId,  # noqa: ARG001 - required by the API, the same for all
) -> Response:
    """Shapes with more GPUs than this machine has are left out: they would be refused."""
    shapes = _available(here.machine)
    names = [shape.name for shape in shapes]
    start = 0
    if paging.page:
        if paging.page not in names:
            raise InvalidParameter("page is not a token of this list; start again without it")
        start = names.index(paging.page) + 1
    end = start + paging.limit
    headers = {"opc-next-page": names[end - 1]} if end < len(shapes) else {}
    return make_response(
        [ModelDeploymentShapeSummary.of(shape) for shape in shapes[start:end]], headers=headers
    )


def _available(machine: Machine) -> list[Shape]:
    return [shape for shape in SHAPES if gpus_of(shape.name) <= machine.gpus]
