"""Advice on files of the artifact that code looks for elsewhere, or writes to.

Python's own errors name the file. Libraries have their own texts for it, and SQLite names nothing:
it makes an empty database in the working folder instead. So the texts of an exception are searched
for names and, where they hold none, so are the frames of the artifact's code in its traceback.
"""

import errno
import os
import re
import traceback

READ_ONLY = "the artifact is read-only: write below HOME or TMPDIR"

_MAX_NAME_LENGTH = 300
_MAX_NAMES = 200
_CONTRACT_FILES = ("score.py", "runtime.yaml")
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_ABSENT = re.compile(
    r"no such|n[o']t\s+(be\s+)?(find|found|exist|open)|does(n't| not) exist|unable to (open|find)"
    r"|(could|can|did)\s?(no|n')t\s+(open|find|load)|fail\w* to (open|find|load)"
    r"|open\w*\b.*\bfail|not a (local )?(folder|directory|file)|\bno file\b|is missing",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"permission denied|read-?only (file ?system|database)|write a readonly|errno ?= ?13",
    re.IGNORECASE,
)
# Words in quotes, or words that may name a file.
_NAMES = re.compile(r"'([^']+)'|\"([^\"]+)\"|`([^`]+)`|([^\s'\"`=(),;<>]+)")
_SQLITE_ABSENT = ("no such table", "unable to open database file")


def advice(errors, artifact):
    """Half a sentence about an exception and what led to it, or ``""``."""
    for error in errors:
        hint = _on_os_error(error, artifact) or _on_text(error, artifact)
        if hint:
            return hint
    return ""


def _on_os_error(error, artifact):
    """On an OSError, which names its file."""
    name = getattr(error, "filename", None)
    if not isinstance(error, OSError) or not isinstance(name, str) or not name:
        return ""
    if _inside(name, artifact):
        return READ_ONLY if error.errno in _DENIED else ""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _find_in_artifact(name, artifact)
    return ""


def _on_text(error, artifact):
    """On an error whose text may name a file."""
    try:
        text = str(error)[:4000]
    except Exception:  # its own __str__ may raise anything
        return ""
    is_sqlite = type(error).__module__ == "sqlite3"
    named = [name for name in _names(text) if not _is_contract_file(name)]
    within = [name for name in named if os.path.isabs(name) and _inside(name, artifact)]
    if _REFUSED.search(text) and (within or is_sqlite):
        return READ_ONLY + _sqlite_hint(is_sqlite)
    if not _ABSENT.search(text) or within:
        return ""
    for name in named:
        hint = _find_in_artifact(name, artifact)
        if hint:
            return hint
    return _on_sqlite(error, text, artifact) if is_sqlite else ""


def _on_sqlite(error, text, artifact):
    if not text.startswith(_SQLITE_ABSENT):
        return ""
    strings, knows_folder = _mentions(error, artifact)
    if knows_folder:
        # So it has been found: what fails is to write beside it.
        is_opened = text.startswith("unable")
        return READ_ONLY + _sqlite_hint(True) if is_opened else ""
    for name in strings:
        hint = _find_in_artifact(name, artifact, was_created=True)
        if hint:
            return hint
    return ""


def _find_in_artifact(name, artifact, was_created=False):
    """Advice on a file that code looks for outside the artifact, but that is in it; or ``""``.

    ``was_created``: looking for it has made an empty one.
    """
    if len(name) > _MAX_NAME_LENGTH or "\0" in name or _is_contract_file(name):
        return ""
    if ".." in name.split(os.sep):
        return ""
    exists = os.path.exists(name)
    if exists and not (was_created and os.path.isfile(name) and not os.path.getsize(name)):
        return ""
    if not os.path.isabs(name):
        if not name.strip("./") or not os.path.exists(os.path.join(artifact, name)):
            return ""
        return (
            "%s is in the artifact, which is not the working folder: put "
            "os.path.dirname(__file__) before its name" % name
        )
    # A path of the machine where it was saved; its end may be in the artifact.
    parts = [part for part in name.split(os.sep) if part]
    for first in range(1, len(parts)):
        end = os.path.join(*parts[first:])
        if os.path.exists(os.path.join(artifact, end)):
            return "the artifact has %s: name it by os.path.join(os.path.dirname(__file__), %r)" % (
                end,
                end,
            )
    return ""


def _sqlite_hint(is_sqlite):
    if not is_sqlite:
        return ""
    return ", or open the database with ?mode=ro&immutable=1 (sqlite3.connect(…, uri=True))"


def _mentions(error, artifact):
    """``(strings, knows_folder)`` of the artifact's own frames: what their code may have named,
    and whether it uses its own location.
    """
    strings, knows_folder = [], False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if not _inside(code.co_filename, artifact):
            continue
        values = list(code.co_consts)
        values += [frame.f_globals.get(name) for name in code.co_names]
        if code.co_name != "<module>":
            values += frame.f_locals.values()
        for value in values:
            if isinstance(value, os.PathLike):
                value = os.fspath(value)
            if isinstance(value, str) and 0 < len(value) <= _MAX_NAME_LENGTH:
                if os.path.isabs(value) and _inside(value + os.sep, artifact):
                    knows_folder = True
                else:
                    strings.append(value)
        knows_folder = knows_folder or "__file__" in code.co_names
    return strings[:_MAX_NAMES], knows_folder


def _names(text):
    """Words that may name files in a text, with and without punctuation at their end."""
    names = []
    for match in _NAMES.finditer(text):
        name = next(group for group in match.groups() if group)
        for candidate in (name, name.rstrip(".:!?"), name.partition(":")[0]):
            is_word = match.group(4) and "." not in candidate and "/" not in candidate
            if candidate and not is_word and candidate not in names:
                names.append(candidate)
        if len(names) > _MAX_NAMES:
            break
    return names


def _is_contract_file(name):
    return os.path.basename(name) in _CONTRACT_FILES


def _inside(name, artifact):
    return os.path.abspath(name).startswith(artifact.rstrip(os.sep) + os.sep)
