"""What a freshly forked child does first: undo what it has inherited of the keeper's."""

import os
import random
import signal
import sys
from _thread import get_ident


def reset_after_fork(close_keepers):
    """Undo what the fork inherited. ``close_keepers()`` closes the keeper's descriptors."""
    signal.set_wakeup_fd(-1)
    handled = (signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM)
    ignored = (signal.SIGHUP, signal.SIGQUIT)  # as `nohup` and shells' & may have left them
    for number in handled + ignored:
        signal.signal(number, signal.SIG_DFL)
    # What a library that raises it expects: it must not return a prediction half made.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    close_keepers()
    _prefer_for_oom_kill()
    reseed()


def handle_in_this_process_only(number, handler):
    """Handle a signal in this process; the processes that predict() forks get the default action.

    ``multiprocessing`` ends its workers by SIGTERM and then waits for them. The signal is blocked
    during a fork: a child that still had our handler would handle it, and not end.
    """
    masks = {}  # of threads that fork

    def block():
        masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {number})

    def unblock():
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

    def restore_default():
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_DFL)
        unblock()

    signal.signal(number, handler)
    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=restore_default)


def reseed():
    """Give this process random numbers of its own: forked copies would all draw the same.

    This also overrides a seed that score.py has set while loading.
    """
    random.seed()
    for name, function in (("numpy.random", "seed"), ("torch", "seed")):
        module = sys.modules.get(name)
        if module is not None:
            try:
                getattr(module, function)()
            except Exception:  # not the library, or half loaded
                pass


def _prefer_for_oom_kill():
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # raising one's own score is allowed nearly everywhere
