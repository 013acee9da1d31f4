"""What to do about the usual faults of a model that cannot be loaded: half a sentence, or none.

Those are the ones whose own text leads nowhere: it names what the author has never written, or
leaves out what would explain it.
"""

import os
import re
import sys

_LOST = re.compile(r"Can't get attribute '([^']+)' on <module '([^']+)'")


def advice(error, artifact):
    """What follows the exception's text, or ``""``."""
    if isinstance(error, AttributeError):
        return _of_pickle(str(error), artifact)
    if isinstance(error, ModuleNotFoundError):
        return _of_module(error.name or "", artifact)
    if isinstance(error, ImportError) and "attempted relative import" in str(error):
        if "no known parent" in str(error):
            return "score.py is in no package: import what lies beside it by name, without a dot"
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return _of_file(error, artifact)
    return ""


def _of_pickle(text, artifact):
    found = _LOST.search(text)
    if found is None:
        return ""
    name, module = found.groups()
    if module == "__main__":
        return (
            "the model was saved where %s was defined in a notebook or script: define it in a "
            "module beside score.py, import it from there, and save the model again" % name
        )
    return "" if _is_of(artifact, module) else _of_version(module)


def _of_module(name, artifact):
    package = name.partition(".")[0]
    if not package or _is_of(artifact, package):
        return ""
    if package == name:
        return "neither the artifact nor its inference environment has it"
    return _of_version(package) if package in sys.modules else ""


def _of_version(module):
    return (
        "the model may have been saved with another version of %s than its inference environment "
        "has" % module.partition(".")[0]
    )


def _of_file(error, artifact):
    name = error.filename
    if os.path.isabs(name):
        inside = os.path.abspath(name).startswith(artifact.rstrip(os.sep) + os.sep)
        if inside and isinstance(error, PermissionError):
            return "the artifact is read-only: write below HOME or TMPDIR"
    elif os.path.exists(os.path.join(artifact, name)):
        return (
            "it is in the artifact, which is not the working folder: put os.path.dirname(__file__) "
            "before its name"
        )
    return ""


def _is_of(artifact, module):
    """Whether the artifact has a module or package of that name."""
    path = os.path.join(artifact, module.partition(".")[0])
    return os.path.isdir(path) or os.path.isfile(path + ".py")
