"""Errors of callers and of score.py. Our own are plain exceptions.

HttpError       the response instead of a prediction: status, error code of the API, a sentence
LoadFailed      score.py's, while loading: a sentence that a data scientist understands
LoadTooSlow     raised into user code that takes too long to load
"""

import os
import traceback

from havre_copy.advice import advice
from havre_copy.causes import MAX_TEXT_LENGTH, describe_whole, shortened, text_of

MAX_REASON_LENGTH = 600  # of a sentence with advice: as JSON it fits a pipe in one piece


class HttpError(Exception):
    """Raised where a request gets this response instead of a prediction."""

    def __init__(self, status, code, message):
        Exception.__init__(self, message)
        self.status = status
        self.code = code
        self.message = message


class LoadFailed(Exception):
    """The artifact cannot be served; the text is the reason shown to its owner."""


class LoadTooSlow(BaseException):
    """Not an Exception: user code that catches everything must not swallow it."""


def full_traceback(error, with_ours=False):
    """The traceback; ``with_ours``: also our own frames that are above the user's."""
    frames = error.__traceback__
    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep
    while not with_ours and frames is not None and _is_ours(frames, ours):
        frames = frames.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frames))
    except Exception as unprintable:  # user code's exception may not even print
        return "(traceback not printable: %s)\n" % type(unprintable).__name__


def explain_load(error, artifact):
    """The sentence for an exception that importing score.py or ``load_model()`` raised."""
    location = _last_location(error, artifact)
    if isinstance(error, SystemExit):
        return "score.py ended the program while loading (sys.exit)%s%s" % (
            _at(location),
            _exit_message(error),
        )
    if isinstance(error, SyntaxError) and error.filename and _inside(error.filename, artifact):
        # The sentence begins with the position: str(error) would repeat it.
        name = os.path.relpath(error.filename, artifact)
        text = "%s line %s: %s: %s" % (name, error.lineno, type(error).__name__, error.msg)
    elif _passed_through(error, artifact, "load_model"):
        text = "load_model() failed: %s%s" % (describe_whole(error), _at(location))
    else:
        text = "%s: %s" % (location or "score.py", describe_whole(error))
    return with_advice(text, error, artifact)


def with_advice(text, error, artifact):
    """An exception's description and what to do about it; bounded, but the advice is complete."""
    more = advice(error, artifact)
    if not more:
        return shortened(text, MAX_REASON_LENGTH)
    return "%s; %s" % (shortened(text, max(MAX_REASON_LENGTH - len(more) - 2, 100)), more)


def _exit_message(error):
    """The argument of ``sys.exit``, unless it is 0 or nothing."""
    code = error.code
    if code is None or code == 0 or isinstance(code, bool):
        return ""
    return ": %s" % shortened(text_of(error), MAX_TEXT_LENGTH - 100)


def _is_ours(frame, ours):
    name = frame.tb_frame.f_code.co_filename
    return name.startswith(ours) or name.startswith("<frozen importlib")


def _at(location):
    return " (%s)" % location if location else ""


def _inside(filename, artifact):
    return os.path.abspath(filename).startswith(artifact.rstrip(os.sep) + os.sep)


def _last_location(error, artifact):
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _inside(frame.f_code.co_filename, artifact):
            location = "%s line %d" % (os.path.relpath(frame.f_code.co_filename, artifact), line)
    return location


def _passed_through(error, artifact, function):
    return any(
        frame.f_code.co_name == function and _inside(frame.f_code.co_filename, artifact)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )
