"""Whose fault it is: the caller's, or that of score.py. Faults of ours are plain exceptions.

Refused         the caller's: a status, a code of the API and a sentence
LoadFailed      score.py's, while loading: a sentence that a data scientist understands
LoadTooSlow     raised into user code that loads for too long
"""

import os
import traceback

from havre_copy.advice import advice

LONGEST_TEXT = 500


class Refused(Exception):
    """A request that gets no prediction."""

    def __init__(self, status, code, message):
        Exception.__init__(self, message)
        self.status = status
        self.code = code
        self.message = message


class LoadFailed(Exception):
    """The artifact cannot be served; the text is the reason shown to its owner."""


class LoadTooSlow(BaseException):
    """Not an Exception: user code that catches everything must not swallow it."""


def describe(error):
    """``ValueError: text``, on one line, bounded."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a __str__ of theirs
        text = ""
    name = type(error).__name__
    described = "%s: %s" % (name, text) if text else name
    if len(described) <= LONGEST_TEXT:
        return described
    return described[: LONGEST_TEXT - 3] + "..."


def full_traceback(error):
    """The traceback without our own frames above the user's."""
    frames = error.__traceback__
    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep
    while frames is not None and _is_ours(frames, ours):
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception as another:  # their exception may not even print
        return "(traceback not printable: %s)\n" % type(another).__name__


def explain_load(error, artifact):
    """The sentence for an exception that importing score.py or ``load_model()`` raised."""
    if isinstance(error, SystemExit):
        place = _last_place(error, artifact)
        return "score.py ended the program while loading (sys.exit)%s" % _at(place)
    if isinstance(error, SyntaxError) and error.filename and _inside(error.filename, artifact):
        # The position is in the sentence's first words: str(error) would repeat it.
        name = os.path.relpath(error.filename, artifact)
        return "%s line %s: %s: %s" % (name, error.lineno, type(error).__name__, error.msg)
    place = _last_place(error, artifact)
    if _passed_through(error, artifact, "load_model"):
        told = "load_model() failed: %s%s" % (describe(error), _at(place))
    else:
        told = "%s: %s" % (place or "score.py", describe(error))
    try:
        more = advice(error, artifact)
    except Exception:  # an exception of theirs, with attributes of its own
        more = ""
    return "%s; %s" % (told, more) if more else told


def _is_ours(frame, ours):
    name = frame.tb_frame.f_code.co_filename
    return name.startswith(ours) or name.startswith("<frozen importlib")


def _at(place):
    return " (%s)" % place if place else ""


def _inside(filename, artifact):
    return os.path.abspath(filename).startswith(artifact.rstrip(os.sep) + os.sep)


def _last_place(error, artifact):
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _inside(frame.f_code.co_filename, artifact):
            place = "%s line %d" % (os.path.relpath(frame.f_code.co_filename, artifact), line)
    return place


def _passed_through(error, artifact, function):
    return any(
        frame.f_code.co_name == function and _inside(frame.f_code.co_filename, artifact)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )
