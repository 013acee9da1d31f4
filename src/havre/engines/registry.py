"""Which engines there are, by the name that the setting `engine` gives.

A home has one, as there is one kind of workload. With a second kind that another engine runs,
`make_engine` returns an engine over both, which starts an instance by the kind of its workload.
"""

from collections.abc import Callable, Mapping

from havre.engines.base import LocalEngine
from havre.engines.confinement import Permissions
from havre.engines.process import ProcessEngine
from havre.home import Home
from havre.settings import Settings
from havre.supervisor.client import SupervisorClient


def make_engine(settings: Settings, home: Home) -> LocalEngine:
    """The engine of this home."""
    return ENGINES[settings.engine](settings, home)


def _process(settings: Settings, home: Home) -> ProcessEngine:
    permissions = Permissions(settings.models_as_root, settings.models_unix_sockets)
    return ProcessEngine(home, SupervisorClient(home.supervisor_socket), permissions)


ENGINES: Mapping[str, Callable[[Settings, Home], LocalEngine]] = {"process": _process}
