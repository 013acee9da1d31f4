"""score.py: imported, checked against its contract, loaded.

The contract is Oracle's: ``load_model()`` without required arguments, and ``predict(data, …)``
whose other parameters have defaults, usually ``model=load_model()``, which loads at import.
"""

import ast
import gc
import importlib.util
import inspect
import os
import signal
import sys
from types import FunctionType

from havre_copy import versions
from havre_copy.faults import LoadFailed, LoadTooSlow, explain_load

FILE = "score.py"


class Scorer:
    """What a copy needs of score.py: predict(), and notes on how it loads."""

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
        notes = _load_model(module, predict, path)
        mismatch = versions.silently_wrong(artifact)
        if mismatch:
            raise LoadFailed(mismatch)
        return Scorer(predict, notes)
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
    except (TypeError, ValueError):  # written in C: calling it will show
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


def _load_model(module, predict, path):
    """Load now what would otherwise be loaded once per copy. Returns notes on it."""
    load_model = getattr(module, "load_model", None)
    if load_model is None:
        return ["score.py has no load_model()"]
    if not callable(load_model) or _required(load_model):
        return ["load_model() in score.py needs arguments, so it was not called"]
    cached = hasattr(load_model, "cache_info")
    if not cached and (_has_model_by_default(predict) or _is_called_at_import(path)):
        return []
    model = load_model()
    # If only this name refers to it, as to the fresh list, nothing keeps what was loaded.
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
    for function in _with_closures(predict, []):
        if function is not predict and function.__name__ != "predict":
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        if any(not isinstance(parameter.default, plain) for parameter in parameters):
            return True
    return False


def _is_called_at_import(path):
    """Whether score.py calls ``load_model()`` outside its functions: then it keeps the result, and
    a second call would load the model twice.
    """
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return False  # a compiled file, perhaps
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "load_model"
        for part in _run_at_import(tree)
        for node in ast.walk(part)
    )


def _run_at_import(tree):
    """The expressions that importing runs: of functions, their defaults and decorators.

    Not by recursion: a sum of a thousand terms is nested a thousand levels deep.
    """
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            defaults = [default for default in node.args.kw_defaults if default is not None]
            for part in node.args.defaults + defaults + getattr(node, "decorator_list", []):
                yield part
        elif isinstance(node, ast.If) and _tests_for_main(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Call):
            yield node
        else:
            pending += ast.iter_child_nodes(node)


def _tests_for_main(test):
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))


def _with_closures(function, visited):
    """The function and those in its closure: a decorator without ``functools.wraps`` hides it."""
    visited.append(function)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            inner = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if isinstance(inner, FunctionType) and inner not in visited:
            _with_closures(inner, visited)
    return visited
