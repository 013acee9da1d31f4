"""The folders of instances, from the engine's side: what it writes there, reads and clears away.

An instance's folder is ours, those in it are the model's own (`InstancePaths`). What the engine
decides it writes beside them, where the model cannot; what it reads may be forged all the same
where models run as the server's own user, so that it is read as foreign.
"""

import json
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from havre import durable, foreign
from havre.domain import instance_logs
from havre.domain import reported as words
from havre.domain.instance import InstanceSpec
from havre.engines import keeper_protocol, output, trash
from havre.engines.confinement import InstanceConfinement, InstancePaths, not_private
from havre.home import Home

LONGEST_NAME = 255
_ID = re.compile(r"[A-Za-z0-9]{1,32}")

logger = logging.getLogger(__name__)


def paths(home: Home, instance_id: str) -> InstancePaths:
    return InstancePaths(home.instances / instance_id)


def known(home: Home) -> list[str]:
    """Ids of the instances that have a folder."""
    with os.scandir(home.instances) as entries:
        return [
            entry.name
            for entry in entries
            if _ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]


def prepare(home: Home, spec: InstanceSpec, plan: InstanceConfinement) -> None:
    """From nothing. What the engine reads later stays ours, lest the model forges it.

    Raises OSError.
    """
    its = paths(home, spec.id)
    home.instance_logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear(home, spec.id)
    its.folder.mkdir(mode=0o700, parents=True)
    output.begin(home.instance_logs, spec)
    stated = keeper_protocol.spec_json(spec, its.state_file, its.output)
    notes = (*plan.notes, *not_private(home))
    stated.update(confinement_notes=notes, refusal=plan.refusal)
    durable.write_file(its.spec, json.dumps(stated).encode())
    for folder in its.owned:
        folder.mkdir(mode=0o700)
    if (user := plan.confinement.user) is not None:
        for folder in its.owned:
            os.chown(folder, user.uid, user.gid)
        for path, mode in ((its.spec, 0o440), (its.folder, 0o750)):
            os.chown(path, 0, user.gid)
            path.chmod(mode)


def clear(home: Home, instance_id: str) -> None:
    """Remove its folder, but not what its copies have printed. Raises OSError."""
    its = paths(home, instance_id)
    try:
        output.keep(home, instance_id)
    except OSError as error:
        logger.warning("what instance %s has printed is lost: %s", instance_id, error)
    trash.throw_away(its.folder, home.trash)


def read_spec(home: Home, instance_id: str) -> dict[str, Any]:
    """What the keeper was started with; empty when it cannot be read, or is what we never write."""
    try:
        spec = foreign.read_json(paths(home, instance_id).spec, below=home.instances)
        words.count(spec["copies"], keeper_protocol.MAX_COPIES)
        for name in ("deployment", "revision"):
            words.text(spec[name], LONGEST_NAME)
        for name in ("start_timeout_s", "predict_timeout_s", "min_ready_s"):
            words.seconds(spec.get(name, 0.0))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return spec


def condemn(home: Home, instance_id: str, reason: str) -> None:
    """Write down that the engine has ended it, and why: it has failed from now on.

    Its predict log has the reason, too. Raises OSError.
    """
    verdict = json.dumps({"reason": reason}).encode()
    durable.write_file(paths(home, instance_id).verdict, verdict)
    log_end(home, instance_id, reason)


def log_end(home: Home, instance_id: str, reason: str) -> None:
    """Write into its predict log, for the deployment's owner, why it is ended. Raises OSError."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    line = f"{moment}Z [keeper] ended: {reason}\n".encode()
    log = home.instance_logs / instance_logs.of_keeper(instance_id)
    file = foreign.open_file(log, below=home.instance_logs, access=os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def verdict_on(home: Home, instance_id: str) -> str:
    """Why the engine has ended it; empty if it has not."""
    path = paths(home, instance_id).verdict
    try:
        verdict = foreign.read_json(path, below=home.instances)
        return words.text(verdict["reason"], keeper_protocol.LONGEST_REASON)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
