"""Whether the copies of a new instance have lived long enough to call the instance ready. Pure.

A copy may report that it is ready, and die of what its model does next: in a thread, on a timer,
when it runs out of memory. Its report alone is no reason to send it requests.
"""


class Probation:
    """``needed_s``: all ``copies`` must be up for this long, and none die. 0: one must be up.

    Once it is over it stays over: after that copies that die are just replaced.
    """

    def __init__(self, copies, needed_s, *, is_over=False):
        self.is_over = is_over
        self._copies = copies if needed_s else 1
        self._needed_s = needed_s
        self._deaths = 0
        self._since = None

    def observe(self, *, up, deaths, now):
        """``up`` copies take requests now, ``deaths`` have been so far; ``now`` in seconds."""
        if self.is_over:
            return
        if up < self._copies or deaths != self._deaths:
            self._since = None
        self._deaths = deaths
        if up < self._copies:
            return
        if self._since is None:
            self._since = now
        self.is_over = now - self._since >= self._needed_s

    def next_wake(self):
        """When it may be over, in the time of ``observe``, or None."""
        if self.is_over or self._since is None:
            return None
        return self._since + self._needed_s
