"""Whether a request's JSON is what ``input_schema.json`` describes: checked before predict().

A deployment turns it on with ``MODEL_CHECK_INPUT=1``, or the schema itself does: ``checkInput`` at
its top is true. ``MODEL_CHECK_INPUT=0`` overrides that. It reads the columns that oracle-ads
writes, or a JSON Schema of rows. It checks whether a column is there, and the type of its values;
a request may have more columns than the schema.
"""

import json
import os
from numbers import Integral, Real

from havre_copy.faults import HttpError
from havre_copy.samples import SCHEMA

VARIABLE = "MODEL_CHECK_INPUT"
MAX_SCHEMA_BYTES = 10 * 1024 * 1024
_SHOWN = 60  # characters of a value or a label

_NUMBER, _WHOLE, _TRUTH, _TEXT = "a number", "a whole number", "true or false", "text"
_KINDS = (
    ("float", _NUMBER),
    ("number", _NUMBER),
    ("int", _WHOLE),
    ("uint", _WHOLE),
    ("bool", _TRUTH),
    ("str", _TEXT),
)
"""By the prefix of a dtype or of a JSON Schema's type; values of other types are not checked."""


def checker(artifact, variables):
    """``check(data)``, which raises HttpError; None where it is not turned on."""
    stated = variables.get(VARIABLE, "").strip()
    if stated == "0":
        return None
    try:
        with open(os.path.join(artifact, SCHEMA), "rb") as file:
            schema = json.loads(file.read(MAX_SCHEMA_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(schema, dict) or not (stated == "1" or schema.get("checkInput") is True):
        return None
    columns = columns_of(schema)
    return _InputCheck(columns) if columns else None


def note(check, variables):
    """A note on it for the deployment's owner, or ``""``."""
    if check is not None:
        return "requests are held to %s before predict() gets them" % SCHEMA
    if variables.get(VARIABLE, "").strip() == "1":
        return "%s=1 does nothing: the artifact has no %s that names columns" % (VARIABLE, SCHEMA)
    return ""


def columns_of(schema):
    """``[(name, kind or None, dtype, required), …]`` in their order; empty if there are none."""
    columns = schema.get("schema")
    try:
        if isinstance(columns, list):
            ordered = sorted(columns, key=lambda column: column.get("order") or 0)
            return [
                _column(stated["name"], stated.get("dtype"), stated.get("required", True))
                for stated in ordered
            ]
        rows = schema.get("items") if schema.get("type") == "array" else schema
        properties = rows.get("properties")
        needed = rows.get("required") or []
        return [
            _column(name, stated.get("type"), name in needed) for name, stated in properties.items()
        ]
    except (KeyError, TypeError, AttributeError):
        return []


def _column(name, dtype, required):
    dtype = str(dtype)
    kind = next((kind for prefix, kind in _KINDS if dtype.lower().startswith(prefix)), None)
    return str(name), kind, dtype, required is not False


class _InputCheck:
    def __init__(self, columns):
        self._columns = columns
        self._names = {name for name, _, _, _ in columns}

    def __call__(self, data):
        if isinstance(data, dict) and "data" in data and "data" not in self._names:
            data = data["data"]
        if isinstance(data, list):
            self._rows(data)
        elif isinstance(data, dict):
            self._of_dict(data)

    def _rows(self, rows):
        for number, row in enumerate(rows):
            if isinstance(row, dict):
                self._named(row, number)
            elif isinstance(row, list):
                self._in_order(row, number)

    def _named(self, row, number):
        for name, kind, dtype, is_required in self._columns:
            if name in row:
                _check(row[name], kind, dtype, name, number)
            elif is_required:
                raise _missing(name, number)

    def _in_order(self, row, number):
        if len(row) != len(self._columns):
            raise _refused(
                "row %d has %d values, and %s has %d columns"
                % (number, len(row), SCHEMA, len(self._columns))
            )
        for value, (name, kind, dtype, _) in zip(row, self._columns):
            _check(value, kind, dtype, name, number)

    def _of_dict(self, data):
        """A row, or columns: of lists, or by row label as ``DataFrame.to_json()`` writes them."""
        if not self._names & data.keys():
            return  # of another form, which predict() may know
        if not any(isinstance(value, (list, dict)) for value in data.values()):
            self._named(data, 0)
            return
        for name, kind, dtype, is_required in self._columns:
            values = data.get(name)
            if isinstance(values, dict):
                for label, value in values.items():
                    _check(value, kind, dtype, name, label)
            elif isinstance(values, list):
                for number, value in enumerate(values):
                    _check(value, kind, dtype, name, number)
            elif is_required and name not in data:
                raise _missing(name)


def _check(value, kind, dtype, name, row):
    if kind is None or value is None or _is(kind, value):
        return
    raise _refused(
        "row %s, column %r: %s is not %s, and %s says %s"
        % (str(row)[:_SHOWN], name, _shown(value), kind, SCHEMA, dtype)
    )


def _shown(value):
    """Of bounded length: a value may be all of a request, or nest deeper than can be written."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    shown = json.dumps(value[:_SHOWN] if isinstance(value, str) else value, default=str)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _is(kind, value):
    is_truth = isinstance(value, bool)
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _TRUTH:
        return is_truth or value in (0, 1)
    if is_truth or not isinstance(value, Real):
        return False
    return kind == _NUMBER or isinstance(value, Integral) or float(value).is_integer()


def _missing(name, row=None):
    where = "row %s: " % row if row is not None else ""
    return _refused("%scolumn %r is missing; %s requires it" % (where, name, SCHEMA))


def _refused(message):
    return HttpError(400, "InvalidParameter", message)
