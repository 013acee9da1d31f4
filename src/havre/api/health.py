"""Whether this server can do its work."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text

from havre import __version__
from havre.api.services import Deps
from havre.api.signatures import STRANGER

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(request: Request, here: Deps) -> Response:
    """200 when the API responds and the database is reached; else 503 by the error handler.

    ``role`` is for load balancers in front of several homes. ``holder`` is the address of the
    server that serves the deployments: this one's, if it holds the lease. Where requests must be
    signed, one that is not gets neither that nor the version.
    """
    with here.database.read() as session:
        session.execute(text("SELECT 1"))
    body = {"status": "ok", "role": here.role()}
    if STRANGER not in request.scope:
        body |= {"version": __version__, "holder": here.base_url()}
    return JSONResponse(body)
