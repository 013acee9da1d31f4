"""The API, put together: routers, error responses and the edge around them."""

from fastapi import FastAPI

from havre import __version__
from havre.api import (
    absent,
    artifacts,
    deployments,
    health,
    log_groups,
    log_search,
    metrics,
    models,
    monitoring,
    projects,
    search,
    shapes,
    version_sets,
    work_requests,
)
from havre.api.edge import Edge
from havre.api.errors import install_error_handlers
from havre.api.services import Services
from havre.api.signatures import Signatures
from havre.auth import metrics_token
from havre.auth.keyring import Keyring

ROUTERS = (
    health.router,
    metrics.router,
    monitoring.router,
    projects.router,
    models.router,
    artifacts.router,
    version_sets.router,
    search.router,
    deployments.router,
    shapes.router,
    work_requests.router,
    log_groups.router,
    log_search.router,
    work_requests.of_logging,
    absent.router,  # last: only what no other router serves
)


def create_app(services: Services) -> FastAPI:
    """An ASGI application over these services. It starts nothing and owns nothing of them."""
    app = FastAPI(
        title="havre",
        description="Model deployment, as OCI Data Science has it.",
        version=__version__,
        docs_url=None,  # their assets come from the internet; /openapi.json needs nothing
        redoc_url=None,
        redirect_slashes=False,
        # The routes themselves: `include_router` would make each of them again, when the first
        # requests come, which takes longer than everything else here.
        routes=[route for router in ROUTERS for route in router.routes],
    )
    app.state.services = services
    install_error_handlers(app)
    if services.settings.auth == "oci":
        keyring = Keyring(services.home, services.identity)
        app.add_middleware(
            Signatures,
            key_of=keyring.find,
            clock=services.clock,
            tokens={metrics.PATH: metrics_token.load_or_create(services.home)},
        )
    app.add_middleware(Edge)
    return app
