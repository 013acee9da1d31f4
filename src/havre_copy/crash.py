"""Where a process was when a fatal signal came: read from what Python's faulthandler has printed.

It is on in every keeper and copy, and writes to the process's output.
"""

import os
import re
import signal
import stat

_TAIL = 64 * 1024  # bytes; a list of extension modules may be long
_FATAL = "Fatal Python error: "
_CURRENT = re.compile(r"^(Current thread|Stack) [^\n]*\(most recent call first\):\n", re.MULTILINE)
_FRAME = re.compile(r'  File "([^"]+)", line (\d+) in (.+)')


SIGNALS = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)


def describe_file(path, artifact):
    """``Segmentation fault at score.py line 5 in predict``, from a file of output; ``""`` if it
    shows no crash.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""  # the folder is the user's
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return ""
        text = os.pread(descriptor, _TAIL, max(0, about.st_size - _TAIL))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return describe_text(text.decode("utf-8", "replace"), artifact)


def describe_text(text, artifact):
    """The same from the text."""
    _, fatal, after = text.rpartition(_FATAL)
    if not fatal:
        return ""
    what = after.partition("\n")[0].strip()
    current = _CURRENT.search(after)
    if current is None:
        return what
    frames = []
    for line in after[current.end() :].split("\n"):
        frame = _FRAME.match(line)
        if frame is None:
            break
        frames.append(frame.groups())
    if not frames:
        return what
    root = artifact.rstrip(os.sep) + os.sep
    own = [frame for frame in frames if frame[0].startswith(root)]
    name, line, function = (own or frames)[0]
    shown = os.path.relpath(name, artifact) if own else name
    description = "%s at %s line %s in %s" % (what, shown, line, function)
    if own and own[0] != frames[0]:
        description += " (%s line %s in %s)" % frames[0]
    return description
