"""What the end-to-end tests share: servers, the environments of their models, the SDK's clients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.e2e import notebooks
from tests.e2e.havre_server import HavreServer
from tests.e2e.notebooks import Notebook, NotInstallable
from tests.e2e.oracle_client import OracleClient

NewServer = Callable[..., HavreServer]


@pytest.fixture(scope="session")
def notebook() -> Notebook:
    """Where models are trained; published on `server`, for artifacts that name nothing too."""
    return _built("notebook")


@pytest.fixture(scope="session")
def torch_notebook(server: HavreServer) -> Notebook:
    """PyTorch is large, so it has an environment of its own; published on `server`."""
    built = _built("torch")
    server.havre("env", "publish", built.slug, "--prefix", str(built.prefix))
    return built


@pytest.fixture(scope="session")
def server(notebook: Notebook) -> Iterator[HavreServer]:
    """One server per process of the tests."""
    with ExitStack() as stack:
        yield _start(stack, notebook, {})


@pytest.fixture
def new_server(notebook: Notebook) -> Iterator[NewServer]:
    """``new_server(**settings)``: a server of its own for one test."""
    with ExitStack() as stack:
        yield lambda **settings: _start(stack, notebook, settings)


@pytest.fixture(scope="session")
def oracle(server: HavreServer) -> Iterator[OracleClient]:
    client = OracleClient(server)
    yield client
    client.close()


def _start(stack: ExitStack, notebook: Notebook, settings: dict[str, str]) -> HavreServer:
    started = HavreServer({"HAVRE_DEFAULT_ENVIRONMENT": notebook.slug, **settings})
    stack.callback(started.down)
    started.havre("env", "publish", notebook.slug, "--prefix", str(notebook.prefix))
    started.up()
    return started


def _built(name: str) -> Notebook:
    try:
        return notebooks.build(name)
    except NotInstallable as why:
        pytest.skip(f"{name} cannot be installed here: {why}")
