"""Finding deployments, and what they demand of the machine together."""

from typing import Any

from sqlalchemy import Select, inspect, select
from sqlalchemy.orm import Bundle, Session

from havre.domain.capacity import Demand, demand_of, total
from havre.domain.deployment import DeploymentSpec
from havre.domain.errors import EtagMismatch, InvalidParameter, NotFound, RelatedNotFound
from havre.domain.ocid import Kind, is_ocid
from havre.domain.states import IDLE, NAMELESS, ModelState, ProjectState
from havre.store.locks import hold
from havre.store.schema import Artifact, Deployment, Model, Project

MODEL_SLOT = "model"

_HIDDEN = {"spec", "serving_spec", "serving_configuration"}
_LISTED: Bundle[Any] = Bundle(
    "deployment",
    *(
        getattr(Deployment, column.key)
        for column in inspect(Deployment).column_attrs
        if column.key not in _HIDDEN
    ),
)


def listed() -> Select[Deployment]:
    """Deployments, to be filtered and read by the page, with what the API shows of them.

    The results are not rows, which could be changed, but their values by the same names, without
    what only the reconciler and changes need: half of the time and of the bytes.
    """
    return select(_LISTED)


def find(session: Session, deployment_id: str) -> Deployment:
    """Raises NotFound. A deleted deployment is found: it stays readable."""
    return _existing(
        session.get(Deployment, deployment_id) if _may_be(deployment_id) else None, deployment_id
    )


def find_for_change(session: Session, deployment_id: str) -> Deployment:
    """The same, locked until the transaction ends, so that of two changes one sees the other."""
    row = (
        session.get(Deployment, deployment_id, with_for_update=True, populate_existing=True)
        if _may_be(deployment_id)
        else None
    )
    return _existing(row, deployment_id)


def claim_name(session: Session, *, compartment_id: str, display_name: str) -> None:
    """For a deployment that is to be the only one of its name: of two that claim it at the same
    time the second waits until the first's transaction has ended, and then finds it.

    Raises EtagMismatch naming the deployment that has the name. One that is FAILED, DELETING or
    DELETED does not keep it.
    """
    hold(session, f"name {compartment_id} {display_name}")
    holder = session.scalars(
        select(Deployment)
        .where(
            Deployment.compartment_id == compartment_id,
            Deployment.display_name == display_name,
            Deployment.lifecycle_state.not_in(NAMELESS),
        )
        .order_by(Deployment.time_created.desc(), Deployment.id.desc())
    ).first()
    if holder is not None:
        raise EtagMismatch(
            f"deployment {holder.id}, which is {holder.lifecycle_state}, is called "
            f"{display_name!r} already: update it, or leave out if-none-match to have two"
        )


def require_project(session: Session, project_id: str) -> Project:
    """A project that a deployment may be put in, kept from being deleted meanwhile.

    Raises RelatedNotFound.
    """
    project = session.get(Project, project_id, with_for_update={"read": True})
    if project is None or project.lifecycle_state != ProjectState.ACTIVE:
        raise RelatedNotFound(
            f"projectId {project_id} does not name an ACTIVE project; create one, or list them "
            "with GET /20190101/projects"
        )
    return project


def require_artifact(session: Session, model_id: str) -> Artifact:
    """The artifact of a model that can be deployed, kept from being deleted meanwhile.

    Raises RelatedNotFound if there is no such model, InvalidParameter if the model is not ACTIVE
    or has no artifact.
    """
    model = session.get(Model, model_id, with_for_update={"read": True})
    if model is None or model.lifecycle_state == ModelState.DELETED:
        raise RelatedNotFound(
            f"modelId {model_id} does not name a model; list them with GET /20190101/models"
        )
    if model.lifecycle_state != ModelState.ACTIVE:
        raise InvalidParameter(
            f"model {model_id} is {model.lifecycle_state}, not ACTIVE; activate it with "
            f"POST /20190101/models/{model_id}/actions/activate, or use another model"
        )
    artifact = session.scalars(
        select(Artifact).where(Artifact.model_id == model_id, Artifact.slot == MODEL_SLOT)
    ).one_or_none()
    if artifact is None:
        raise InvalidParameter(
            f"model {model_id} has no artifact; upload one with "
            f"POST /20190101/models/{model_id}/artifact"
        )
    return artifact


def used_by_others(session: Session, deployment_id: str | None) -> Demand:
    """What all other deployments demand of the machine, each the larger of what is desired and what
    serves: a change that fails goes back to that.

    Until the transaction ends no other can read the same: two deployments cannot both get the last
    of the room.
    """
    hold(session, "capacity")
    specs = session.execute(
        select(Deployment.id, Deployment.spec, Deployment.serving_spec).where(
            Deployment.lifecycle_state.not_in(IDLE)
        )
    )
    return total(
        _demand(desired).larger(_demand(serving))
        for other, desired, serving in specs
        if other != deployment_id
    )


def _demand(spec: dict[str, Any] | None) -> Demand:
    return Demand() if spec is None else demand_of(DeploymentSpec.from_json(spec))


def _may_be(deployment_id: str) -> bool:
    return is_ocid(deployment_id, Kind.DEPLOYMENT)


def _existing(row: Deployment | None, deployment_id: str) -> Deployment:
    if row is None:
        raise NotFound(
            f"model deployment {deployment_id[:255]} does not exist, or you may not see it"
        )
    return row
