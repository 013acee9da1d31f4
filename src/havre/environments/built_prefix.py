"""The folder of one built environment, from the moment it is made until it is removed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from havre.domain.progress import Progress
from havre.durable import remove_tree, sync_folder, sync_tree, write_file
from havre.environments import build_lock
from havre.environments.definition import BuiltEnvironment
from havre.environments.prefix_contents import MARKER, read_marker
from havre.trees import let_others_read


class BuiltPrefix:
    """``built/<digest>`` below the environments of a home, with the files that guard it.

    It is whole when its marker is there, which is written last. Beside its lock there is a file
    that says it is unfinished: while an environment is being made, or when its maker was killed.
    """

    def __init__(self, root: Path, digest: str) -> None:
        self.digest = digest
        self.path = root / "built" / digest
        self.lock_file = root / "locks" / f"{digest}.lock"
        self._unfinished = root / "locks" / f"{digest}.unfinished"

    def marker(self) -> dict[str, Any] | None:
        """The content of its marker, or None if it is not whole."""
        return None if self._unfinished.exists() else read_marker(self.path)

    def environment(self) -> BuiltEnvironment | None:
        """None if it is not whole, or its Python has gone."""
        marker = self.marker()
        interpreter = self.path / "bin" / "python"
        if marker is None or not os.access(interpreter, os.X_OK):
            return None
        return BuiltEnvironment(
            self.digest, marker["slug"], self.path, interpreter, marker["python"]
        )

    @contextmanager
    def locked(self, slug: str, progress: Progress) -> Iterator[int]:
        """Yields the descriptor of its lock; ``progress`` gets who has it before."""
        self.lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with build_lock.held(self.lock_file, slug, progress) as lock:
            yield lock

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """An empty folder, to be filled and sealed; it is removed if that raises."""
        try:
            self.discard()
            # Until its marker is written by us, whatever marker lies in it is somebody else's.
            self._unfinished.touch()
            sync_folder(self._unfinished.parent)
            # Passable: copies may run as another user, who must reach the environment but list
            # nothing.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.parent.chmod(0o711)
            self.path.mkdir()
            yield
        except BaseException:
            self.discard()
            raise

    def seal(self, marker: dict[str, Any]) -> None:
        """Everything durable first, then the marker: from then on the environment is there."""
        let_others_read(self.path)
        sync_tree(self.path)
        write_file(self.path / MARKER, json.dumps(marker, indent=1).encode(), mode=0o644)
        self._unfinished.unlink()

    def remove(self) -> None:
        """The marker first; then its folder, and its lock, which the caller holds."""
        (self.path / MARKER).unlink(missing_ok=True)
        if self.path.is_dir():
            sync_folder(self.path)
            self.discard()
        self._unfinished.unlink(missing_ok=True)
        self.lock_file.unlink()

    def discard(self) -> None:
        """Remove what lies in an unfinished one."""
        remove_tree(self.path)

    def sweep(self) -> bool:
        """Discard it if a killed build left it unfinished; whether it did."""
        if self.marker() is not None:
            return False
        with build_lock.held_if_free(self.lock_file) as is_held:
            if not is_held or self.marker() is not None:
                return False
            self.discard()
            return True
