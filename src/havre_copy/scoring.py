"""score.py: imported, checked against its contract, loaded, called.

The contract is Oracle's: ``load_model()`` without required arguments, and ``predict(data, …)``
whose other parameters have defaults, usually ``model=load_model()``, which loads at import.
"""

import gc
import importlib.util
import inspect
import os
import signal
import sys
from types import FunctionType

from havre_copy.faults import LoadFailed, LoadTooSlow, explain_load

FILE = "score.py"


class Scorer:
    """What a copy needs of score.py: the function, and sentences about how it loads."""

    def __init__(self, predict, notes):
        self.predict = predict
        self.notes = notes


def load(artifact, *, timeout_s):
    """Import score.py as if it were run in its folder, load its model. Returns a Scorer.

    Raises LoadFailed, with what was raised as its cause.
    """
    path = os.path.join(artifact, FILE)
    if not os.path.isfile(path):
        raise LoadFailed("score.py was not found at the top of the artifact")
    sys.argv[:] = [path]
    sys.path.insert(0, artifact)
    # The artifact is served as it was saved: nothing may appear in it.
    sys.dont_write_bytecode = True
    previous = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        module = _import(path)
        predict = _checked_predict(module)
        return Scorer(predict, _load_model(module, predict))
    except LoadFailed:
        raise
    except LoadTooSlow:
        raise LoadFailed("score.py took over %g s to load its model" % timeout_s) from None
    except BaseException as error:  # SystemExit and the like: user code may raise anything
        raise LoadFailed(explain_load(error, artifact)) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _too_slow(_signum, _frame):
    raise LoadTooSlow()


def _import(path):
    spec = importlib.util.spec_from_file_location("score", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["score"] = module  # pickles name their classes by it
    spec.loader.exec_module(module)
    return module


def _checked_predict(module):
    predict = getattr(module, "predict", None)
    if predict is None:
        raise LoadFailed("score.py has no predict function")
    if not callable(predict):
        raise LoadFailed(
            "predict in score.py is not a function but of type %s" % type(predict).__name__
        )
    try:
        parameters = list(inspect.signature(predict).parameters.values())
    except (TypeError, ValueError):  # written in C: calling it will tell
        return predict
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if not parameters or parameters[0].kind not in positional:
        raise LoadFailed(
            "predict() in score.py must take the request's data as its first parameter"
        )
    bare = [
        parameter.name
        for parameter in parameters[1:]
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if bare:
        raise LoadFailed(
            "predict() in score.py needs a default for every parameter but its first; %s has none"
            % ", ".join(bare)
        )
    return predict


def _load_model(module, predict):
    """Load now what would otherwise be loaded once per copy. Returns sentences about it."""
    load_model = getattr(module, "load_model", None)
    if load_model is None:
        return ["score.py has no load_model()"]
    if not callable(load_model) or _required(load_model):
        return ["load_model() in score.py needs arguments, so it was not called"]
    cached = hasattr(load_model, "cache_info")
    if not cached and _has_model_by_default(predict):
        return []
    model = load_model()
    # Held by this name alone, as the fresh list is: nothing keeps what was loaded.
    fresh = []
    kept = cached or not gc.is_tracked(model) or sys.getrefcount(model) > sys.getrefcount(fresh)
    if kept:
        return []
    return [
        "load_model() keeps nothing and predict() has no default model=load_model(): "
        "each copy loads its own, memory is not shared"
    ]


def _required(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]


def _has_model_by_default(predict):
    """Whether a parameter's default is an object: what ``model=load_model()`` left there."""
    plain = (type(None), type(inspect.Parameter.empty), bool, int, float, str)
    for function in _behind(predict, []):
        if function is not predict and function.__name__ != "predict":
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        if any(not isinstance(parameter.default, plain) for parameter in parameters):
            return True
    return False


def _behind(function, seen):
    """It, and what it may call: a decorator without ``functools.wraps`` hides the parameters."""
    seen.append(function)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            inside = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if isinstance(inside, FunctionType) and inside not in seen:
            _behind(inside, seen)
    return seen
