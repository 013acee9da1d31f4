"""Inference environments: resolve, build, cache, publish."""

from havre.environments.environments import Environments
from havre.environments.rows import EnvironmentRow

__all__ = ["EnvironmentRow", "Environments"]
