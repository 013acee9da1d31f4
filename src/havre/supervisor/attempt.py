"""Tries what a process cannot undo, in a child that ends with it.

A half success may be worse than none: a process in a user namespace whose numbers cannot be written
is nobody, and owns nothing.
"""

import os
import signal
from collections.abc import Callable
from io import FileIO


def why_not(act: Callable[[], object]) -> str:
    """Why it fails here, or "" where it does not. Only for a process that has a single thread."""
    reader, writer = os.pipe()
    with FileIO(reader) as outcome:
        pid = os.fork()
        if pid == 0:
            try:
                act()
            except OSError as error:
                os.write(writer, (str(error) or repr(error)).encode())
            except BaseException as error:
                os.write(writer, repr(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        reason = outcome.readall().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"who tries it is killed ({signal.strsignal(os.WTERMSIG(status))})"
    return reason
