"""Another version of havre: this code in a folder of its own, changed where versions differ."""

import shutil
from pathlib import Path

import havre
from havre.engines.keeper_protocol import PROTOCOL

SOURCES = Path(havre.__file__).parents[1]


class OtherVersion:
    """``folder`` goes into PYTHONPATH of whoever shall run it."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        for package in ("havre", "havre_copy"):
            shutil.copytree(
                SOURCES / package,
                folder / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        self.change("havre/__init__.py", f'"{havre.__version__}"', f'"{version}"')
        # What releases do change: the listener, the load balancer's bootstrap, a keeper's code.
        self.change("havre/balancer/envoy/listener.py", "KEEP_ALIVE_S = 600", "KEEP_ALIVE_S = 590")
        self.change("havre/balancer/envoy/bootstrap.py", '{"value": 0.8}', '{"value": 0.79}')
        self.change(
            "havre_copy/logger.py", "FIRST_OWN_DESCRIPTOR = 10", "FIRST_OWN_DESCRIPTOR = 11"
        )

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old}"
        path.write_text(text.replace(old, new))

    def speak_another_protocol(self) -> None:
        for file in ("havre/engines/keeper_protocol.py", "havre_copy/spec.py"):
            self.change(file, f"\nPROTOCOL = {PROTOCOL}\n", "\nPROTOCOL = 0\n")
