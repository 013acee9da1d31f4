"""``havre doctor``: what this machine offers, what is missing, and how to get it."""

from havre.cli.doctor.command import register

__all__ = ["register"]
