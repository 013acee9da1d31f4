"""Advice on what only a newer Python has: syntax, modules, methods, ways to write types."""

import re
import sys

# Patterns for the line of a syntax error, and the first Python in which it is correct.
_SYNTAX = (
    (r"^\s*(match|case)\b.*:\s*(#.*)?$", (3, 10), "match statements"),
    (r"^\s*except\s*\*", (3, 11), "except*"),
    (r"^\s*type\s+\w+.*=", (3, 12), "type statements"),
    (r"^\s*(async\s+)?(def|class)\s+\w+\[", (3, 12), "type parameters"),
    (r"^\s*(async\s+)?with\s*\(", (3, 9), "with statements in parentheses"),
    (r"^\s*except\s+\w[\w.]*\s*,", (3, 14), "except without parentheses"),
    (r"(?<![:=!<>]):=", (3, 8), "assignments within expressions (:=)"),
    (r"\bdef\b.*[(,]\s*/\s*[,)]", (3, 8), "parameters by position only (/)"),
    (r"\blambda\b.*,\s*/\s*[,:]", (3, 8), "parameters by position only (/)"),
    (r"\bt(\"|')", (3, 14), "template strings"),
    (r"\bf(\"|').*\{[^{}]*=\}|^\(.*=\)$", (3, 8), "f-strings that show their expression ({x=})"),
    (r"\bf\"[^\"]*\{[^}\"]*\"|\bf'[^']*\{[^}']*'", (3, 12), "such f-strings"),
    (r"[\w\])]\[\s*\*", (3, 11), "stars in an index"),
    (r"^\s*@.*[\])]\s*[.\[(]", (3, 9), "such decorators"),
)
_MODULES = {
    "zoneinfo": (3, 9),
    "graphlib": (3, 9),
    "tomllib": (3, 11),
    "compression": (3, 14),
    "annotationlib": (3, 14),
    "string.templatelib": (3, 14),
    "importlib.metadata": (3, 8),
    "importlib.resources": (3, 7),
}
_METHODS = {
    "removeprefix": (3, 9),
    "removesuffix": (3, 9),
    "bit_count": (3, 10),
    "unparse": (3, 9),
    "pairwise": (3, 10),
    "batched": (3, 12),
}
_NAMES = {
    "Literal": (3, 8),
    "TypedDict": (3, 8),
    "Protocol": (3, 8),
    "Final": (3, 8),
    "cached_property": (3, 8),
    "Annotated": (3, 9),
    "cache": (3, 9),
    "TypeAlias": (3, 10),
    "ParamSpec": (3, 10),
    "Self": (3, 11),
    "StrEnum": (3, 11),
    "UTC": (3, 11),
    "assert_never": (3, 11),
    "override": (3, 12),
    "batched": (3, 12),
}
_TYPES = (
    (r"'(type|ABCMeta)' object is not subscriptable", (3, 9), "types like list[int]"),
    (
        r"unsupported operand type\(s\) for \|: '(type|NoneType|\w*Meta\w*)' and ",
        (3, 10),
        "types like int | None",
    ),
    (r"unsupported operand type\(s\) for \|: 'dict' and 'dict'", (3, 9), "dicts joined by |"),
)
_MAX_LINE_LENGTH, _MAX_TEXT_LENGTH = 500, 4000
_MISSING_METHOD = re.compile(r"has no attribute '(\w+)'")
_MISSING_NAME = re.compile(
    r"cannot import name '(\w+)' from '(typing|functools|enum|datetime|itertools)'"
)


def advice(error, running=sys.version_info):
    """Half a sentence about an exception, or ``""``; ``running`` is the version that runs."""
    for version, what in _missing_features(error):
        if tuple(running[:2]) < version:
            return (
                "%s need Python %d.%d, and the inference environment has %d.%d: choose one of a "
                "newer Python in runtime.yaml" % ((what,) + version + tuple(running[:2]))
            )
    return ""


def _missing_features(error):
    """``[(first Python that has it, what), …]`` for what the exception may show to be missing."""
    text = str(error)[:_MAX_TEXT_LENGTH]
    if isinstance(error, SyntaxError):
        line = (error.text or "")[:_MAX_LINE_LENGTH]  # it may be a client's: ast.literal_eval()
        return [(since, what) for pattern, since, what in _SYNTAX if re.search(pattern, line)]
    if isinstance(error, ModuleNotFoundError):
        return _known(_MODULES, error.name or "", "programs that import %s")
    if isinstance(error, ImportError):
        match = _MISSING_NAME.search(text)
        return _known(_NAMES, match.group(1), "programs that import %s") if match else []
    if isinstance(error, AttributeError):
        match = _MISSING_METHOD.search(text)
        return _known(_METHODS, match.group(1), "programs that call %s()") if match else []
    if isinstance(error, TypeError):
        return [(since, what) for pattern, since, what in _TYPES if re.search(pattern, text)]
    return []


def _known(table, name, what):
    return [(table[name], what % name)] if name in table else []
