"""What the copies of an instance have printed outlives its folder.

The files lie in a folder of the model's own: links, pipes and whatever else lies there is left
alone.
"""

import itertools
import json
import os
from pathlib import Path

from havre import durable
from havre.domain import instance_logs
from havre.domain.instance import InstanceSpec

MOST_LOOKED_AT = 4096


def begin(logs: Path, spec: InstanceSpec) -> None:
    """Say whose output the files of this instance will be. Raises OSError.

    Of an earlier life with the same number the keeper's log may be left: ``begins`` is its size,
    unless that life has not been read to its end yet.
    """
    place = logs / instance_logs.about(spec.id)
    try:
        begins = int(json.loads(place.read_bytes())["begins"])
    except (OSError, ValueError, KeyError, TypeError):
        keepers = logs / instance_logs.of_keeper(spec.id)
        begins = keepers.stat().st_size if keepers.exists() else 0
    about = {"deployment": spec.deployment_id, "revision": spec.revision, "begins": begins}
    durable.write_file(place, json.dumps(about).encode())


def keep(folder: Path, logs: Path, instance_id: str) -> None:
    """Move the copies' files to the server's logs, once nothing of the instance runs.

    Safe to repeat: one that was moved keeps its name there. Raises OSError.
    """
    try:
        with os.scandir(folder) as entries:
            found = [
                entry.name
                for entry in itertools.islice(entries, MOST_LOOKED_AT)
                if instance_logs.copy_of(entry.name)
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_size
            ]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in found[: instance_logs.MOST_FILES]:
        (folder / name).rename(logs / instance_logs.kept(instance_id, name))
