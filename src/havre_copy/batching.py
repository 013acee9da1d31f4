"""Which requests may be answered by one call of predict(), and how its result is shared out. Pure.

Data can be combined if they are rows: a list, an array, or a dict of such (all equally long) and
of plain values. Requests of one *form* are combined: the same kinds at the same keys, the same
plain values. A result can be shared out if it holds a row for each row: a list, an array, a tensor,
a column, or a dict of such; plain values beside them are part of every share.

No rule can decide whether each request then gets what predict() would have returned for it alone:
the keeper tries it on a sample (``batch_proof``), and copies combine data of its structure.
"""

import sys
from typing import Any, NamedTuple

_FIXED = frozenset((str, int, float, bool, type(None)))
_NUMBERS = {int, float}
# By class name: NumPy's array, tensors of PyTorch and of TensorFlow, a column of pandas or Polars.
_LIKE_LISTS = frozenset(("ndarray", "Tensor", "EagerTensor", "Series"))


MAX_REQUESTS = 64
MAX_DELAY_MS = 1000
SIZE = "MODEL_BATCH_SIZE"
DELAY = "MODEL_BATCH_DELAY_MS"


class Batching(NamedTuple):
    """How a copy takes requests: at most ``size`` at once, waiting ``delay_s`` for more of them.

    Those whose data have one of the ``structures`` are combined.
    """

    size: int = 1
    delay_s: float = 0.0
    structures: Any = frozenset()


class NotShareable(Exception):
    """A result that has no row for each row."""


class BatchForm(NamedTuple):
    """``structure`` must be that of the sample; ``fixed`` are plain values and sizes that must be
    equal in all data that are combined. ``rows``: how many there are.
    """

    structure: Any
    fixed: Any
    rows: int


def requested(environment):
    """The Batching that the deployment's variables ask for, without structures so far.

    A value that is no number within its bounds counts as absent: the API has refused it.
    """
    return Batching(
        size=max(1, _number(environment.get(SIZE, ""), MAX_REQUESTS)),
        delay_s=_number(environment.get(DELAY, ""), MAX_DELAY_MS) / 1000,
    )


def structures_of(sample, *, arrays):
    """The structures that may be combined if the sample has passed, as ``arrays`` too."""
    structures = {form_of(sample).structure}
    if arrays:
        structures.add(("array", 2))
    return frozenset(structures)


def form_of(data):
    """The BatchForm of one request's data, or None: it is answered alone."""
    form = _form_of_columns(data) if type(data) is dict else _form_of_part(data)
    return None if form is None else BatchForm(*form)


def combine(many):
    """One request's data for several of the same structure and fixed values."""
    first = many[0]
    if type(first) is list:
        return [row for data in many for row in data]
    if type(first) is dict:
        return {
            key: value if type(value) in _FIXED else combine([data[key] for data in many])
            for key, value in first.items()
        }
    # There are arrays, so NumPy has been imported.
    return sys.modules["numpy"].concatenate(many)


def share_out(result, sizes):
    """The result for each of the requests that were combined. Raises NotShareable."""
    total = sum(sizes)
    if not _has_rows(result, total):
        raise NotShareable("predict() gave %s for %d rows" % (_described(result, total), total))
    shares = []
    begin = 0
    for size in sizes:
        shares.append(_rows(result, begin, begin + size))
        begin += size
    return shares


def slice_rows(data, begin, end):
    """Some rows of one request's data, which has a BatchForm."""
    return _rows(data, begin, end)


def _number(text, limit):
    text = text.strip()
    return int(text) if text.isdigit() and len(text) < 6 and int(text) <= limit else 0


def _form_of_part(rows):
    """The fields of a BatchForm, or None. Called for every request: tuples are cheaper to make."""
    if type(rows) is not list:
        shape = _shape(rows)
        if not shape or not shape[0]:
            return None
        return ("array", len(shape)), (str(rows.dtype), shape[1:]), shape[0]
    kinds = set(map(type, rows))
    if kinds <= _NUMBERS:
        return (("rows", "numbers"), 0, len(rows)) if rows else None
    if len(kinds) != 1:
        return None
    [kind] = kinds
    return ("rows", kind.__name__), _columns_of(rows[0], kind), len(rows)


def _columns_of(row, kind):
    """What must be equal in the first rows. predict() may make a table of the combined rows: a row
    of another width breaks it for all; one of other keys, or types, gets columns that it would not
    have alone, or changes the types of the others.
    """
    if kind is list:
        return len(row), _kinds(row)
    return (tuple(row), _kinds(row.values())) if kind is dict else 0


def _kinds(values):
    kinds = set(map(type, values))
    if int in kinds:  # clients write 1.0 as 1
        kinds.discard(int)
        kinds.add(float)
    return frozenset(kinds)


def _form_of_columns(columns):
    structure = []
    fixed = [tuple(columns)]  # predict() sees their order
    rows = None
    for key in columns if len(columns) == 1 else sorted(columns, key=str):
        value = columns[key]
        kind = type(value)
        if kind in _FIXED:
            structure.append((key, "fixed"))
            fixed.append((kind, value))
            continue
        part = None if kind is dict else _form_of_part(value)
        if part is None or rows not in (None, part[2]):
            return None
        structure.append((key, part[0]))
        fixed.append(part[1])
        rows = part[2]
    return None if rows is None else (("columns", tuple(structure)), tuple(fixed), rows)


def _has_rows(value, total):
    if type(value) is dict:
        checks = [_has_rows(part, total) for part in value.values() if type(part) not in _FIXED]
        return bool(checks) and all(checks)
    if type(value) is list:
        return len(value) == total
    shape = value.shape if type(value).__name__ in _LIKE_LISTS else ()
    return len(shape) > 0 and shape[0] == total


def _rows(value, begin, end):
    if type(value) is dict:
        return {
            key: part if type(part) in _FIXED else _rows(part, begin, end)
            for key, part in value.items()
        }
    if type(value).__name__ == "Series":
        value = getattr(value, "iloc", value)  # by position, not by label
    return value[begin:end]


def _shape(value):
    """The shape of a NumPy array, known by its class name; empty for anything else."""
    return value.shape if type(value).__name__ == "ndarray" else ()


def _described(result, total):
    """What it is; of a dict, which of its values does not have a row for each row."""
    if type(result) is list:
        return "a list of %d" % len(result)
    if type(result) is not dict:
        return "a value of type %s" % type(result).__name__
    for key, part in result.items():
        if type(part) not in _FIXED and not _has_rows(part, total):
            return "a dict with %s under %.60r" % (_described(part, total), key)
    return "a dict without lists"
