"""Nouns, states and rules. Standard library only; no I/O and no clock."""
