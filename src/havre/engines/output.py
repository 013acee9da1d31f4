"""What the copies of an instance have printed outlives its folder.

The files lie in a folder of the model's own: links, pipes and whatever else lies there is left
alone.
"""

import itertools
import json
import os
import stat
from pathlib import Path

from havre import durable, foreign
from havre.domain import instance_logs
from havre.domain.instance import InstanceSpec
from havre.engines.confinement import InstancePaths
from havre.home import Home

MAX_ENTRIES = 4096


def begin(logs: Path, spec: InstanceSpec) -> None:
    """Record whose output the files of this instance will be. Raises OSError.

    Of an earlier life with the same number the keeper's log may be left: ``begins`` is its size,
    unless that life has not been read to its end yet.
    """
    path = logs / instance_logs.about(spec.id)
    try:
        begins = int(json.loads(path.read_bytes())["begins"])
    except (OSError, ValueError, KeyError, TypeError):
        keepers = logs / instance_logs.of_keeper(spec.id)
        begins = keepers.stat().st_size if keepers.exists() else 0
    about = {"deployment": spec.deployment_id, "revision": spec.revision, "begins": begins}
    durable.write_file(path, json.dumps(about).encode())


def keep(home: Home, instance_id: str) -> None:
    """Move the copies' files to the server's logs, once nothing of the instance runs.

    Safe to repeat: one that was moved keeps its name there. Raises OSError.
    """
    its = InstancePaths(home.instances / instance_id)
    try:
        with foreign.open_folder(its.output, below=home.instances) as folder:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES)]
            printed = [name for name in names if _is_printed(name, folder)]
            for name in printed[: instance_logs.MAX_FILES]:
                kept = home.instance_logs / instance_logs.kept(instance_id, name)
                os.rename(name, kept, src_dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return


def _is_printed(name: str, folder: int) -> bool:
    if not instance_logs.copy_of(name):
        return False
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return stat.S_ISREG(about.st_mode) and about.st_size > 0
