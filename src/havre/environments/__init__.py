"""Inference environments: resolve, build, cache, publish."""

from havre.environments.environments import EnvironmentRow, Environments

__all__ = ["EnvironmentRow", "Environments"]
