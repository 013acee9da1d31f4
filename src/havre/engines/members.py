"""Which processes belong to which instance."""

import os

from havre.home import Home
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.client import SupervisorClient
from havre.supervisor.group import living_members
from havre.supervisor.identity import Identity, boot_id, living_processes
from havre.supervisor.protocol import INSTANCE_PREFIX as PREFIX
from havre.supervisor.protocol import Phase


class Members:
    """Looks, and changes nothing."""

    def __init__(self, home: Home, supervisor: SupervisorClient) -> None:
        self._supervisor = supervisor
        trees = find_trees(is_root=os.geteuid() == 0, only_look=True)
        self._cgroups = Cgroups(trees, home.root)

    def of_running(self) -> dict[str, list[int]]:
        """Pids by instance: those of its process group, and of its control group if it has one.

        Raises EngineFault.
        """
        living = living_processes()
        pids_of = {}
        for process in self._supervisor.list():
            if process.name.startswith(PREFIX) and process.phase is Phase.RUNNING:
                leader = Identity(process.pid, process.start_time, boot_id())
                pids = {member.pid for member in living_members(leader, among=living)}
                pids |= self._cgroups.members(process.name)
                pids_of[process.name.removeprefix(PREFIX)] = sorted(pids)
        return pids_of
