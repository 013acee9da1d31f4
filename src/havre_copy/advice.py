"""What to do about common errors of a model, while it loads and when it predicts: half a sentence,
or none.

Only for errors whose own text does not help: it names what the author has never written, or leaves
out what would explain it.
"""

import os
import re
import sys

from havre_copy import misplaced, newer_python, versions
from havre_copy.causes import chain
from havre_copy.system_packages import PACKAGES

_ABSENT_LIBRARY = re.compile(r"(?<![\w./+-])([\w.+-]+\.so[\w.]*): cannot open shared object file")
_LOST_CLASS = re.compile(r"Can't get attribute '([^']+)' on <module '__main__'")
_HEAD = 4  # bytes of a file that tell UTF-16
_MAX_SOURCES = 500
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def advice(error, artifact):
    """What to append to the exception's text, or ``""``; its causes are looked at, too."""
    errors = chain(error)
    try:
        for cause in errors:
            hint = _advice_on(cause, artifact)
            if hint:
                return hint
        return misplaced.advice(errors, artifact)
    except Exception:  # user code's exceptions may have attributes that raise
        return ""


def _advice_on(error, artifact):
    if isinstance(error, (SyntaxError, ValueError)):
        hint = _on_encoding(error, artifact)
        if hint:
            return hint
    hint = newer_python.advice(error)
    if hint:
        return hint
    if isinstance(error, AttributeError):
        lost_class = _LOST_CLASS.search(str(error))
        if lost_class:
            return (
                "the model was saved where %s was defined in a notebook or script: define it in a "
                "module beside score.py, import it from there, and save the model again"
                % lost_class.group(1)
            )
    if isinstance(error, (ImportError, OSError)):
        absent_library = _ABSENT_LIBRARY.search(str(error))
        if absent_library:
            return _on_library(absent_library.group(1))
    if isinstance(error, ImportError) and "attempted relative import" in str(error):
        if "no known parent" in str(error):
            return "score.py is in no package: import files beside it by name, without a dot"
    hint = versions.advice(error, artifact, lambda module: _has_module(artifact, module))
    if hint or not isinstance(error, ModuleNotFoundError):
        return hint
    return _on_module(error.name or "", artifact)


def _on_module(name, artifact):
    package = name.partition(".")[0]
    if not package or _has_module(artifact, package) or package in sys.modules:
        return ""
    return (
        "neither the artifact nor its inference environment has it: choose an environment that "
        "has it, or name it in requirements.txt and publish one (havre env publish)"
    )


def _on_library(name):
    packages = PACKAGES.get(name)
    if packages is None:
        return "the machine has no %s: install the system's package that brings it" % name
    return "the machine has no %s: install %s (Debian, Ubuntu) or %s (Fedora)" % (
        (name,) + packages
    )


def _on_encoding(error, artifact):
    """For a source file that is not in UTF-8, as Windows editors may save it."""
    name = getattr(error, "filename", None)
    if isinstance(name, str):
        names = [name]
    elif "source code" in str(error) and "null byte" in str(error):
        names = _sources(artifact)  # it does not say which
    else:
        return ""
    for path in names:
        try:
            with open(path, "rb") as file:
                head = file.read(_HEAD)
        except OSError:
            continue
        if head[:2] in _UTF_16 or (len(head) == _HEAD and b"\0" in head):
            shown = os.path.basename(path)
            return "%s is in UTF-16, which Python does not read: save it as UTF-8" % shown
    return ""


def _sources(artifact):
    paths = []
    for folder, _, names in os.walk(artifact):
        paths += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]
    return paths[:_MAX_SOURCES]


def _has_module(artifact, module):
    """Whether the artifact has a module or package of that name."""
    path = os.path.join(artifact, module.partition(".")[0])
    return os.path.isdir(path) or os.path.isfile(path + ".py")
