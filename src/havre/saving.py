"""``havre.save``: a model in memory as an artifact, ready for `havre deploy`.

Called in the notebook or program that made the model, so that its Python and the versions of its
libraries are those that are recorded.
"""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

from havre.domain.errors import Conflict, InvalidParameter
from havre.provenance import provenance, this_python, used_by

MODEL = "model.pkl"
SAMPLED_ROWS = 2
SAMPLE, SCHEMA = "test_input.json", "input_schema.json"
WRITTEN = ("score.py", MODEL, "runtime.yaml", "requirements.txt", SAMPLE, SCHEMA)

_MANIFEST = """MODEL_ARTIFACT_VERSION: '3.0'
MODEL_DEPLOYMENT:
  INFERENCE_CONDA_ENV:
    INFERENCE_PYTHON_VERSION: '{python}'
"""
_SCORE = '''"""Serves the model that havre.save put beside this file."""

import os
import pickle
{imports}
{constants}

def load_model():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.pkl"), "rb") as file:
        return pickle.load(file)


def predict(data, model=load_model()):
    {rows}
    return {{"prediction": {call}(rows)}}
'''
_OF_FRAMES = """rows = data if isinstance(data, pandas.DataFrame) else pandas.DataFrame(data)
    rows = rows[list(DTYPES)].astype(DTYPES)"""


def save(model: Any, folder: str | Path, *, sample: Any = None, overwrite: bool = False) -> Path:
    """Write an artifact for ``model``, which has ``predict(rows)`` or can be called with rows.

    ``sample`` is some rows as ``predict`` takes them: a pandas DataFrame, a NumPy array or what
    JSON can say. Requests are then brought into that form (a DataFrame has the sample's columns and
    dtypes; a request that lacks one, or has other values, is refused by row and column), and its
    first rows become the artifact's own sample request. Without it ``predict`` gets what the JSON
    of a request says.

    Raises Conflict if the folder has files of an artifact, unless ``overwrite``; InvalidParameter
    for a model that cannot be called or pickled. Warns if no versions could be recorded.
    """
    if not callable(model) and not callable(getattr(model, "predict", None)):
        raise InvalidParameter(f"a {type(model).__name__} has no predict() and cannot be called")
    target = Path(folder)
    there = [name for name in WRITTEN if (target / name).exists()]
    if there and not overwrite:
        raise Conflict(f"{target} has {', '.join(there)} already: say overwrite=True to replace it")
    form = _form(sample)
    content = _pickled(model)
    sampled = "" if form == "" else _json(sample, form)
    target.mkdir(parents=True, exist_ok=True)
    for name in there:
        (target / name).unlink()
    (target / MODEL).write_bytes(content)
    (target / "score.py").write_text(_score(model, sample, form), encoding="utf-8")
    if sampled:
        (target / SAMPLE).write_text(sampled + "\n", encoding="utf-8")
    if form == "frame":
        (target / SCHEMA).write_text(_schema(sample) + "\n", encoding="utf-8")
    _record(target)
    return target


def _record(folder: Path) -> None:
    """The Python that runs this, and its versions of what the artifact uses."""
    made = provenance(used_by(folder), [this_python()])
    (folder / "runtime.yaml").write_text(_MANIFEST.format(python=made.python), encoding="utf-8")
    unknown = (*made.absent, *made.unpinnable)
    if unknown:
        warnings.warn(
            f"no versions are recorded: {', '.join(unknown)} is not from a package index; publish "
            "an environment that has it (`havre env publish`) and deploy with --environment SLUG",
            stacklevel=3,
        )
        return
    lines = [f"# Recorded by havre.save: the versions in {made.prefix}.", *made.pins]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _form(sample: Any) -> str:
    """``frame``, ``array``, ``json``, or empty without a sample: recognised by its type's name, so
    that neither pandas nor NumPy need be there.
    """
    if sample is None:
        return ""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(sample).mro()}
    if "pandas.DataFrame" in names:
        return "frame"
    return "array" if "numpy.ndarray" in names else "json"


def _json(sample: Any, form: str) -> str:
    try:
        if form == "frame":
            text: str = sample.head(SAMPLED_ROWS).to_json(orient="records", date_format="iso")
            return text
        return json.dumps(sample[:SAMPLED_ROWS].tolist() if form == "array" else sample)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(f"the sample cannot be a request: {error}") from error


def _schema(sample: Any) -> str:
    """The columns that requests are held to before ``predict`` gets them."""
    columns = [
        {"name": str(name), "dtype": str(dtype), "order": order, "required": True}
        for order, (name, dtype) in enumerate(sample.dtypes.items())
    ]
    return json.dumps({"checkInput": True, "schema": columns}, indent=2, ensure_ascii=False)


def _pickled(model: Any) -> bytes:
    """By cloudpickle where it is there, which carries what the notebook itself defines along."""
    try:
        try:
            import cloudpickle  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            return pickle.dumps(model)
        content: bytes = cloudpickle.dumps(model)
        return content
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InvalidParameter(
            f"a {type(model).__name__} cannot be pickled ({error}): save it with its library's own "
            "function, and write a score.py that loads it"
        ) from error


def _score(model: Any, sample: Any, form: str) -> str:
    imports, constants, rows = "", "", "rows = data"
    if form == "frame":
        dtypes = {str(name): str(dtype) for name, dtype in sample.dtypes.items()}
        imports = "\nimport pandas\n"
        constants = f"\nDTYPES = {json.dumps(dtypes, indent=4, ensure_ascii=False)}\n"
        rows = _OF_FRAMES
    elif form == "array":
        imports = "\nimport numpy\n"
        rows = f'rows = numpy.asarray(data, dtype="{sample.dtype}")'
    call = "model.predict" if callable(getattr(model, "predict", None)) else "model"
    return _SCORE.format(imports=imports, constants=constants, rows=rows, call=call)
