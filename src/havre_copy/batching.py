"""Which requests may be answered by one call of predict(), and how its result is shared out. Pure.

Data can be combined if they are rows: a list, an array, or a dict of such (all equally long) and
of plain values. Requests of one *form* are combined: the same kinds at the same keys, the same
plain values. A result can be shared out if it holds a row for each row: a list, an array, a tensor,
a column, or a dict of such; plain values beside them go to everybody.

Whether that gives everybody what predict() would have given them alone, no rule can tell: the
keeper tries it on a sample (``proof``), and copies combine what has the sample's structure.
"""

import sys
from typing import Any, NamedTuple

_FIXED = frozenset((str, int, float, bool, type(None)))
_NUMBERS = {int, float}
# By looks: NumPy's array, tensors of PyTorch and of TensorFlow, a column of pandas or Polars.
_LIKE_LISTS = frozenset(("ndarray", "Tensor", "EagerTensor", "Series"))


MOST_AT_ONCE = 64
LONGEST_DELAY_MS = 1000
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


class Form(NamedTuple):
    """``structure`` is what the sample has in common with other data; ``fixed`` the plain values
    and sizes in which those that are combined must agree, too. ``rows``: how many there are.
    """

    structure: Any
    fixed: Any
    rows: int


def wanted(environment):
    """The Batching that the deployment's variables ask for, as yet without structures.

    What is no number in its bounds counts as absent: the API has refused it.
    """
    return Batching(
        size=max(1, _number(environment.get(SIZE, ""), MOST_AT_ONCE)),
        delay_s=_number(environment.get(DELAY, ""), LONGEST_DELAY_MS) / 1000,
    )


def structures_of(sample, *, arrays):
    """What may be combined once the sample's data are proved: what is like them."""
    found = {form_of(sample).structure}
    if arrays:
        found.add(("array", 2))
    return frozenset(found)


def form_of(data):
    """The Form of one request's data, or None: it is answered alone."""
    found = _form_of_columns(data) if type(data) is dict else _form_of_part(data)
    return None if found is None else Form(*found)


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
    # Whoever has arrays has imported NumPy.
    return sys.modules["numpy"].concatenate(many)


def share_out(result, sizes):
    """What each of those whose rows were combined gets. Raises NotShareable."""
    total = sum(sizes)
    if not _has_rows(result, total):
        raise NotShareable("predict() gave %s for %d rows" % (_described(result, total), total))
    shares = []
    begin = 0
    for size in sizes:
        shares.append(_rows(result, begin, begin + size))
        begin += size
    return shares


def take(data, begin, end):
    """Some rows of one request's data, which has a Form."""
    return _rows(data, begin, end)


def _number(text, most):
    text = text.strip()
    return int(text) if text.isdigit() and len(text) < 6 and int(text) <= most else 0


def _form_of_part(rows):
    """A Form's fields, or None. Asked for every request: tuples are cheaper to make."""
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
    """What the first rows must agree in. predict() may make a table of what is put together: a row
    of another width spoils it for all; one of other keys, or kinds, gets columns that it would not
    have alone, or changes the others'.
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
    fixed = [tuple(columns)]  # their order is one that predict() sees
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
        each = [_has_rows(part, total) for part in value.values() if type(part) not in _FIXED]
        return bool(each) and all(each)
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
        value = getattr(value, "iloc", value)  # by place, not by label
    return value[begin:end]


def _shape(value):
    """The shape of a NumPy array, by looks; empty for anything else."""
    return value.shape if type(value).__name__ == "ndarray" else ()


def _described(result, total):
    """What it is, and for a dict which of its values has not a row for each row."""
    if type(result) is list:
        return "a list of %d" % len(result)
    if type(result) is not dict:
        return "a value of type %s" % type(result).__name__
    for key, part in result.items():
        if type(part) not in _FIXED and not _has_rows(part, total):
            return "a dict with %s under %.60r" % (_described(part, total), key)
    return "a dict without lists"
