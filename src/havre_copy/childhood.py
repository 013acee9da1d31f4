"""What a freshly forked child does before it serves: let go of the keeper's, become its own."""

import os
import random
import signal
import sys
from _thread import get_ident


def leave_home(close_keepers):
    """Undo what the fork inherited. ``close_keepers()`` closes the keeper's descriptors."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    close_keepers()
    _go_first_when_memory_ends()
    reseed()


def handle_here_alone(number, handler):
    """Handle a signal in this process. To those that predict() forks it does what it does anywhere.

    ``multiprocessing`` ends its workers by SIGTERM and then waits for them. While a fork is under
    way the signal is held back: a child that still had our handler would take it, and forget it.
    """
    masks = {}  # of threads that fork

    def hold_back():
        masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {number})

    def go_on():
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

    def let_go():
        if signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_DFL)
        go_on()

    signal.signal(number, handler)
    os.register_at_fork(before=hold_back, after_in_parent=go_on, after_in_child=let_go)


def reseed():
    """Give this process random numbers of its own: forked copies would all draw the same.

    A seed that score.py set while loading is undone with it.
    """
    random.seed()
    for name, function in (("numpy.random", "seed"), ("torch", "seed")):
        module = sys.modules.get(name)
        if module is not None:
            try:
                getattr(module, function)()
            except Exception:  # not the library, or half loaded
                pass


def _go_first_when_memory_ends():
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # raising one's own score is allowed nearly everywhere
