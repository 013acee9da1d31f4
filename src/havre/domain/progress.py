"""How a long operation reports where it is."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Called with a sentence at each step; the latest one is what is being done."""


def silent(sentence: str) -> None:
    """Progress that nobody watches."""
    del sentence
