"""Names of the files of an instance's output, for those that write and those that read them.

While it runs, each copy writes a file ``copy-<number>.<epoch ms>.log`` in the instance's own
folder, and another in ``.captured`` where requests are captured; the keeper writes one in the
server's: ``<instance>.log``. When the instance is gone, its copies' files lie beside that one,
``<instance>.`` before their names. ``<instance>.json`` says whose they are, until all of it has
been read.
"""

import re

MAX_FILES = 256
"""Of copies' files at once; the folder is the model's own, and may hold anything."""

_COPY = re.compile(r"copy-(\d{1,4})\.(\d{13})\.(log|captured)")
_ABOUT = re.compile(r"([A-Za-z0-9]{1,32})\.json")


def copy_of(name: str) -> tuple[int, int] | None:
    """Number of the copy and epoch ms of its start; None if no copy's file has such a name."""
    match = _COPY.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def is_capture(name: str) -> bool:
    """Of a copy's file: whether it holds captured requests, and not what was printed."""
    return name.endswith(".captured")


def of_keeper(instance_id: str) -> str:
    return f"{instance_id}.log"


def kept(instance_id: str, name: str) -> str:
    """Of a copy's file when the instance is gone."""
    return f"{instance_id}.{name}"


def about(instance_id: str) -> str:
    return f"{instance_id}.json"


def instance_of(about_name: str) -> str | None:
    match = _ABOUT.fullmatch(about_name)
    return match[1] if match else None
