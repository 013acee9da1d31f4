"""The supervisor's own limits, which everything that it starts inherits.

Any process of the same user may lower them (prlimit(2)), and only root may raise them again. Models
are kept from it; what else the user runs is not.
"""

import resource
from collections.abc import Callable

NAMES = {
    getattr(resource, f"RLIMIT_{name}"): what
    for name, what in {
        "AS": "address space",
        "CORE": "size of core files",
        "CPU": "processor time",
        "DATA": "data",
        "FSIZE": "size of files",
        "MEMLOCK": "locked memory",
        "NOFILE": "open files",
        "NPROC": "processes",
        "RSS": "resident memory",
        "STACK": "stack",
    }.items()
}


class OwnLimits:
    """The limits of when it was made. ``log`` takes sentences for the log."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._expected = {kind: resource.getrlimit(kind) for kind in NAMES}
        self._lost: set[int] = set()

    def restore(self) -> None:
        """Undo what somebody has lowered; what cannot be undone is logged, once."""
        for kind, expected in self._expected.items():
            current = resource.getrlimit(kind)
            if not any(map(_is_lower, current, expected)):
                self._expected[kind] = current  # raised limits are welcome
                self._lost.discard(kind)
            elif kind not in self._lost:
                self._undo(kind, current, expected)

    def _undo(self, kind: int, current: tuple[int, int], expected: tuple[int, int]) -> None:
        lowered = f"somebody lowered this process's limit of {NAMES[kind]}"
        try:
            resource.setrlimit(kind, expected)
        except (OSError, ValueError):
            self._lost.add(kind)
            self._log(
                f"{lowered} from {_in_words(expected)} to {_in_words(current)}, and only root can "
                "undo it: what is started has it, too, until `havre down` and `havre up`"
            )
        else:
            self._log(f"{lowered} to {_in_words(current)}; it is {_in_words(expected)} again")


def _is_lower(current: int, expected: int) -> bool:
    without = resource.RLIM_INFINITY
    return (
        current != expected and current != without and (expected == without or current < expected)
    )


def _in_words(limit: tuple[int, int]) -> str:
    """The soft and the hard one."""
    return "/".join("none" if value == resource.RLIM_INFINITY else str(value) for value in limit)
