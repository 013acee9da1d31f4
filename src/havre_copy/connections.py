"""The instance's one queue, as the keeper sees it: it accepts, tells the copies, puts away.

``fair_queue`` says how copies take from it, and what the keeper owes it when one of them dies.
"""

import errno
import os
import resource
import select
import socket
from array import array
from collections import deque
from selectors import EVENT_READ
from time import monotonic

from havre_copy.fair_queue import (
    ARMED,
    DRAINING,
    ENDING,
    HELD,
    MORE,
    MOST_AT_ONCE,
    OPEN,
    OPENED,
    OVER,
    FairQueue,
    held,
    limit_stalls,
    make_hands,
)

MOST_CONNECTIONS = 1024
# The process's table of files is as long as the highest number in it.
HIGHEST_NUMBER = 8192
# A copy passes from waiting to naming what it got in microseconds; only one that the system does
# not let run takes longer, and it must run within this time to be sure not to be disturbed.
PATIENCE_S = 0.25
_LOOK_S = 0.01
_FEWEST_LOOKS = 8  # it is also looked at so often: the keeper may be kept from running as well
_TRY_AGAIN_S = 0.1
# Longer than the load balancer keeps an idle connection (``balancer/clusters.py``).
IDLE_GRACE_S = 1.0


class Connections:
    """All connections of one instance. ``carried`` are numbers that a former self has left open.

    ``listener`` is a listening socket; ``selector`` the keeper's. Each copy serves up to ``most``
    requests at once.
    """

    def __init__(self, *, listener, selector, copies, journal, most=1, carried=()):
        self._listener = listener
        self._listener.setblocking(False)
        self._selector = selector
        self._journal = journal
        self._queue = select.epoll()
        self._hangups = select.epoll()
        self._hands = make_hands(copies, most)
        self._told = {}
        self._open = {}
        self._suspects = {}
        self._try_again = False
        self._is_listening = True
        self._is_closed = False  # shut, and its queue in the kernel is empty
        self._ends_at = None
        # Its other end is closed when we die, however: that wakes every waiting copy.
        self._life, self._held_end = os.pipe()
        self._queue.register(self._life, 0)
        highest = _highest_number()
        self._first = highest - min(MOST_CONNECTIONS, highest // 2)
        # The number that was given back first is given out first: it stays unused for long.
        self._free = deque(sorted(set(range(self._first, highest)).difference(carried)))
        self._add(carried)
        selector.register(self._hangups, EVENT_READ, self._on_hangups)
        selector.register(self._listener, EVENT_READ, self._on_arrival)

    def next_wake(self):
        """When something must be done though nothing happens (``monotonic()``), or None."""
        now = monotonic()
        times = []
        if self._suspects:
            times.append(now + _LOOK_S)
        if self._try_again:
            times.append(now + _TRY_AGAIN_S)
        if self._ends_at is not None and self._open:
            times.append(self._ends_at if self._ends_at > now else now + _TRY_AGAIN_S)
        return min(times) if times else None

    def see_to(self):
        """Do what ``next_wake`` was for."""
        if self._suspects:
            self._look_for_lost()
        if self._try_again:
            self._try_again = not all([told.send() for told in self._told.values()])
            self._listen(bool(self._free))
        if self._ends_at is not None and self._ends_at <= monotonic():
            self._shut_idle()

    # For the copies.

    def before_fork(self, copy):
        """Make the way on which a copy will be told of connections; the end that is the copy's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hand = self._hands[copy]
        _empty(hand)
        hand[OPENED] = 0
        hand[ENDING] = OPEN if self._ends_at is None else DRAINING
        self._told[copy] = _Told(ours, hand)
        return theirs

    def queue_in_child(self, copy, channel, journal):
        """In the forked copy: its place at the queue."""
        return FairQueue(
            epoll=self._queue.fileno(),
            listener=self._listener.fileno(),
            life=self._life,
            channel=channel,
            hand=self._hands[copy],
            numbers=self._open,
            first=self._first,
            journal=journal,
        )

    def close_in_child(self):
        """In any forked child: let go of what is the keeper's alone."""
        os.close(self._held_end)
        self._hangups.close()
        for told in self._told.values():
            told.channel.close()

    def hand(self, copy):
        return self._hands[copy]

    def bury(self, copy, *, has_served):
        """A copy is dead. ``has_served``: it was past loading its model.

        How many connections it was serving, all of which are shut.
        """
        self._told.pop(copy).channel.close()
        served = held(self._hands[copy]) & self._open.keys()
        for number in served:
            _shut(self._open[number])
        _empty(self._hands[copy])
        if has_served:
            self._look_for_lost(has_died=True)
        return len(served)

    # Its end.

    def drain(self):
        """Take no more connections; those that are open end with their next answer."""
        # Those in the kernel's queue can still be accepted; new ones are refused, so that the load
        # balancer tries elsewhere.
        self._listener.shutdown(socket.SHUT_RD)
        self._ends_at = monotonic() + IDLE_GRACE_S
        for hand in self._hands:
            hand[ENDING] = DRAINING
        while self._accept_some():
            pass

    @property
    def is_drained(self):
        return self._is_closed and not self._open

    def dismiss(self):
        """Tell all copies that nothing will come any more; whatever is still open is cut."""
        for connection in self._open.values():
            _shut(connection)
        for hand in self._hands:
            hand[ENDING] = OVER
        try:
            self._queue.register(self._listener, select.EPOLLIN)
        except FileExistsError:
            pass

    def carry(self):
        """Let the program that takes our place have the connections; their numbers."""
        for number in self._open:
            os.set_inheritable(number, True)
        return sorted(self._open)

    # Arrivals.

    def _on_arrival(self, _events):
        self._accept_some()

    def _accept_some(self):
        """Whether there may be more."""
        arrived = []
        while len(arrived) < MOST_AT_ONCE:
            number = self._free_number()
            if number is None:
                self._listen(False)  # they wait in the kernel's queue
                break
            try:
                accepted, _ = self._listener._accept()
            except OSError as error:
                self._free.appendleft(number)
                if error.errno == errno.EAGAIN:
                    self._is_closed = self._ends_at is not None
                    self._listen(not self._is_closed)
                elif error.errno != errno.ECONNABORTED:
                    self._journal.say("cannot accept: %s" % error)
                    self._listen(False)
                    self._try_again = True
                break
            if accepted != number:
                os.dup2(accepted, number, False)
                os.close(accepted)
            arrived.append(number)
        self._add(arrived)
        return len(arrived) == MOST_AT_ONCE

    def _free_number(self):
        in_use = self._held()
        for _ in range(len(self._free)):
            number = self._free.popleft()
            if number not in in_use:
                return number
            self._free.append(number)
        return None

    def _add(self, numbers):
        """Copies are told before any of them can get it from the epoll."""
        for number in numbers:
            os.set_inheritable(number, False)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, number)
            limit_stalls(connection)
            self._open[number] = connection
        for told in self._told.values():
            told.owe(numbers)
            if not told.send():
                self._try_again = True
        for number in numbers:
            try:
                self._hangups.register(number, 0)
                self._queue.register(number, ARMED)
            except OSError as error:  # the user's epolls watch all that the system lets them
                self._journal.say("cannot watch a connection: %s" % error)
                self._put_away(number)

    def _listen(self, wanted):
        if wanted == self._is_listening or (wanted and self._is_closed):
            return
        self._is_listening = wanted
        if wanted:
            self._selector.register(self._listener, EVENT_READ, self._on_arrival)
        else:
            self._selector.unregister(self._listener)

    # Departures.

    def _on_hangups(self, _events):
        for number, _ in self._hangups.poll(0):
            self._put_away(number)
        self._listen(bool(self._free))

    def _put_away(self, number):
        for epoll in (self._hangups, self._queue):
            try:
                epoll.unregister(number)  # copies still have the file: the entry would stay
            except FileNotFoundError:
                pass
        self._open.pop(number).close()
        self._free.append(number)
        for told in self._told.values():
            told.forget(number)

    def _look_for_lost(self, *, has_died=False):
        """Arm what a dead copy has taken and not named; see the points 1 and 3 of ``fair_queue``.

        It was disarmed and in no hand when its copy was buried, and stays so. A living copy's is
        so for microseconds. What was lost is known at the first look: later ones only acquit.
        """
        now = monotonic()
        lost = self._disarmed()
        lost -= self._held()
        known = self._suspects
        self._suspects = {}
        for number in lost if has_died else lost & known.keys():
            until, looks = known.get(number, (now + PATIENCE_S, 0))
            if until <= now and looks >= _FEWEST_LOOKS:
                self._queue.modify(number, ARMED)
            else:
                self._suspects[number] = until, looks + 1

    def _held(self):
        """Numbers of the connections that copies serve now."""
        return set().union(*map(held, self._hands))

    def _disarmed(self):
        """Numbers of connections that some copy has taken, as the kernel tells."""
        found = set()
        with open("/proc/self/fdinfo/%d" % self._queue.fileno()) as file:
            for line in file:
                if line.startswith("tfd:"):
                    words = line.split()
                    if not int(words[3], 16) & select.EPOLLIN:
                        found.add(int(words[1]))
        return found & self._open.keys()

    def _shut_idle(self):
        """Cut what nobody uses: the load balancer would have closed it long ago."""
        in_use = self._held()
        unread = {number for number, _ in _readable(self._open)}
        taken = self._disarmed()
        for number, connection in self._open.items():
            if number not in in_use and number not in unread and number not in taken:
                _shut(connection)


class _Told:
    """What one copy has been told of, and what it is owed."""

    def __init__(self, channel, hand):
        self.channel = channel
        self._hand = hand
        self._owed = []
        self._void = 0

    def owe(self, numbers):
        self._owed.extend(numbers)
        self._hand[OPENED] += len(numbers)

    def forget(self, number):
        """It is closed. The copy counts: it must hear that there was one."""
        if number in self._owed:
            self._owed.remove(number)
            self._void += 1

    def send(self):
        """Send what is owed; False if some of it must wait until the copy has read."""
        while self._owed or self._void:
            numbers = self._owed[:MOST_AT_ONCE]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", numbers))]
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            news = array("i", [self._void, *numbers])
            try:
                self.channel.sendmsg([news], rights if numbers else [], flags)
            except OSError as error:
                return error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS)
            del self._owed[:MOST_AT_ONCE]
            self._void = 0
        return True


def _highest_number():
    """Up to which this process may number its files, and should."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HIGHEST_NUMBER if limit == resource.RLIM_INFINITY else min(limit, HIGHEST_NUMBER)


def _empty(hand):
    """Its copy is dead, or not born yet."""
    hand[HELD] = 0
    for place in range(MORE, len(hand)):
        hand[place] = 0


def _shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # its peer was quicker


def _readable(connections):
    poll = select.poll()
    for number in connections:
        poll.register(number, select.POLLIN)
    return poll.poll(0)
