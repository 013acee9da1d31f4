"""Whether this server can do its work."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text

from havre import __version__
from havre.api.services import Here

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz(here: Here) -> Response:
    """200 when the API answers and the database is reached; else 503 by the error handler.

    ``holder`` is the address of the server that serves the deployments: this one's, if it holds the
    lease.
    """
    with here.database.read() as session:
        session.execute(text("SELECT 1"))
    return JSONResponse(
        {
            "status": "ok",
            "version": __version__,
            "role": here.role(),
            "holder": here.base_url(),
        }
    )
