"""``GET /metrics``: for Prometheus."""

from fastapi import APIRouter, Response
from sqlalchemy import select

from havre import __version__
from havre.api.services import Deps
from havre.domain.states import DeploymentState
from havre.store.schema import Deployment
from havre.telemetry.metrics.figures import read_figures
from havre.telemetry.metrics.prometheus import CONTENT_TYPE, ShownDeployment, exposition

PATH = "/metrics"

router = APIRouter(tags=["metrics"])


@router.get(PATH)
def metrics(here: Deps) -> Response:
    """What the telemetry process last saw of every deployment that there is, and our own figures.

    Who may read it: see docs/howto/metrics.md.
    """
    columns = (Deployment.id, Deployment.display_name, Deployment.lifecycle_state)
    with here.database.read() as session:
        rows = session.execute(
            select(*columns).where(Deployment.lifecycle_state != DeploymentState.DELETED)
        ).all()
    deployments = [ShownDeployment(id_, name, DeploymentState(state)) for id_, name, state in rows]
    text = exposition(read_figures(here.home), deployments, here.control_plane_metrics, __version__)
    return Response(text, media_type=CONTENT_TYPE)
