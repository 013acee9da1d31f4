"""havre: self-hosted model deployment that speaks the OCI Data Science API.

``havre.save`` writes a model in memory as an artifact.
"""

from importlib import import_module
from typing import Any

__all__ = ["__version__", "save"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: every command and process of ours imports this module.
    if name == "save":
        return import_module("havre.saving").save
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
