"""The instance's one queue, as the keeper sees it: accept connections, send them to the copies,
close them.

``request_queue`` says how copies take requests from it, and what the keeper must do when a copy
dies.
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

from havre_copy.request_queue import (
    ARMED,
    CLAIMED,
    DRAINING,
    ENDING,
    MAX_PER_MESSAGE,
    MORE_CLAIMS,
    OPEN,
    OPENED,
    OVER,
    RequestQueue,
    claimed,
    limit_stalls,
    make_claims,
)

MAX_CONNECTIONS = 1024
# The process's table of files is as long as the highest number in it.
HIGHEST_NUMBER = 8192
# A copy claims the connection that it has got within microseconds; only one that the system does
# not let run takes longer, and it must run within this time to be sure to keep it.
PATIENCE_S = 0.25
_CHECK_LOST_EVERY_S = 0.01
_MIN_CHECKS = 8  # within that time: the keeper may be kept from running as well
_RETRY_S = 0.1
# Longer than the load balancer keeps an idle connection (``balancer/envoy/clusters.py``).
IDLE_GRACE_S = 1.0


class Connections:
    """All connections of one instance. ``carried``: numbers that were open before a re-exec.

    ``listener`` is a listening socket; ``selector`` the keeper's. Each copy serves up to
    ``max_requests`` requests at once.
    """

    def __init__(self, *, listener, selector, copies, logger, max_requests=1, carried=()):
        self._listener = listener
        self._listener.setblocking(False)
        self._selector = selector
        self._logger = logger
        self._queue = select.epoll()
        self._hangups = select.epoll()
        self._all_claims = make_claims(copies, max_requests)
        self._channels = {}
        self._open = {}
        self._suspects = {}
        self._must_retry = False
        self._is_listening = True
        self._is_closed = False  # shut, and the kernel's queue of new connections is empty
        self._ends_at = None
        # However we die, its other end is closed then: that wakes every waiting copy.
        self._life, self._life_end = os.pipe()
        self._queue.register(self._life, 0)
        highest = _highest_number()
        self._first = highest - min(MAX_CONNECTIONS, highest // 2)
        # The number that was freed first is used first: so each stays unused for long.
        self._free = deque(sorted(set(range(self._first, highest)).difference(carried)))
        self._add(carried)
        selector.register(self._hangups, EVENT_READ, self._on_hangups)
        selector.register(self._listener, EVENT_READ, self._on_arrival)

    def next_wake(self):
        """When ``tick`` has something to do (``monotonic()``), or None."""
        now = monotonic()
        times = []
        if self._suspects:
            times.append(now + _CHECK_LOST_EVERY_S)
        if self._must_retry:
            times.append(now + _RETRY_S)
        if self._ends_at is not None and self._open:
            times.append(self._ends_at if self._ends_at > now else now + _RETRY_S)
        return min(times) if times else None

    def tick(self):
        """Do what ``next_wake`` was for."""
        if self._suspects:
            self._find_lost()
        if self._must_retry:
            self._must_retry = not all([channel.flush() for channel in self._channels.values()])
            self._listen(bool(self._free))
        if self._ends_at is not None and self._ends_at <= monotonic():
            self._shut_idle()

    # For the copies.

    def before_fork(self, copy):
        """Make the channel that will send a copy its connections. Returns the copy's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        claims = self._all_claims[copy]
        _empty(claims)
        claims[OPENED] = 0
        claims[ENDING] = OPEN if self._ends_at is None else DRAINING
        self._channels[copy] = _CopyChannel(ours, claims)
        return theirs

    def queue_in_child(self, copy, channel, logger):
        """In the forked copy: its end of the queue."""
        return RequestQueue(
            epoll=self._queue.fileno(),
            listener=self._listener.fileno(),
            life=self._life,
            channel=channel,
            claims=self._all_claims[copy],
            numbers=self._open,
            first=self._first,
            logger=logger,
        )

    def close_in_child(self):
        """In any forked child: close what is the keeper's alone."""
        os.close(self._life_end)
        self._hangups.close()
        for channel in self._channels.values():
            channel.socket.close()

    def claims(self, copy):
        return self._all_claims[copy]

    def on_death(self, copy, *, has_served):
        """A copy has died. ``has_served``: it had loaded its model.

        Shuts the connections that it was serving, and returns how many they were.
        """
        self._channels.pop(copy).socket.close()
        served = claimed(self._all_claims[copy]) & self._open.keys()
        for number in served:
            _shut(self._open[number])
        _empty(self._all_claims[copy])
        if has_served:
            self._find_lost(has_died=True)
        return len(served)

    # Its end.

    def drain(self):
        """Accept no more connections; the open ones end with their next response."""
        # Those in the kernel's queue can still be accepted; new ones are refused, so that the load
        # balancer tries another instance.
        self._listener.shutdown(socket.SHUT_RD)
        self._ends_at = monotonic() + IDLE_GRACE_S
        self.close_after_response()
        while self._accept_some():
            pass

    def close_after_response(self):
        """Have copies close connections with the responses they send; idle ones stay open."""
        for claims in self._all_claims:
            claims[ENDING] = DRAINING

    @property
    def is_drained(self):
        return self._is_closed and not self._open

    def end_copies(self):
        """Have all copies exit, as no more requests will come; shut what is still open."""
        for connection in self._open.values():
            _shut(connection)
        for claims in self._all_claims:
            claims[ENDING] = OVER
        try:
            self._queue.register(self._listener, select.EPOLLIN)
        except FileExistsError:
            pass

    def carry(self):
        """Leave the connections open for the program that we re-exec. Returns their numbers."""
        for number in self._open:
            os.set_inheritable(number, True)
        return sorted(self._open)

    # Arrivals.

    def _on_arrival(self, _events):
        self._accept_some()

    def _accept_some(self):
        """Whether there may be more."""
        arrived = []
        while len(arrived) < MAX_PER_MESSAGE:
            number = self._free_number()
            if number is None:
                self._listen(False)  # new ones wait in the kernel's queue
                break
            try:
                accepted, _ = self._listener._accept()
            except OSError as error:
                self._free.appendleft(number)
                if error.errno == errno.EAGAIN:
                    self._is_closed = self._ends_at is not None
                    self._listen(not self._is_closed)
                elif error.errno != errno.ECONNABORTED:
                    self._logger.log("cannot accept: %s" % error)
                    self._listen(False)
                    self._must_retry = True
                break
            if accepted != number:
                os.dup2(accepted, number, False)
                os.close(accepted)
            arrived.append(number)
        self._add(arrived)
        return len(arrived) == MAX_PER_MESSAGE

    def _free_number(self):
        in_use = self._claimed()
        for _ in range(len(self._free)):
            number = self._free.popleft()
            if number not in in_use:
                return number
            self._free.append(number)
        return None

    def _add(self, numbers):
        """Send them to the copies before any copy can get one from the epoll."""
        for number in numbers:
            os.set_inheritable(number, False)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, number)
            limit_stalls(connection)
            self._open[number] = connection
        for channel in self._channels.values():
            channel.queue(numbers)
            if not channel.flush():
                self._must_retry = True
        for number in numbers:
            try:
                self._hangups.register(number, 0)
                self._queue.register(number, ARMED)
            except OSError as error:  # the user's processes watch as many as the system allows
                self._logger.log("cannot watch a connection: %s" % error)
                self._remove(number)

    def _listen(self, is_listening):
        if is_listening == self._is_listening or (is_listening and self._is_closed):
            return
        self._is_listening = is_listening
        if is_listening:
            self._selector.register(self._listener, EVENT_READ, self._on_arrival)
        else:
            self._selector.unregister(self._listener)

    # Departures.

    def _on_hangups(self, _events):
        for number, _ in self._hangups.poll(0):
            self._remove(number)
        self._listen(bool(self._free))

    def _remove(self, number):
        for epoll in (self._hangups, self._queue):
            try:
                epoll.unregister(number)  # copies still have the file: the entry would stay
            except FileNotFoundError:
                pass
        self._open.pop(number).close()
        self._free.append(number)
        for channel in self._channels.values():
            channel.drop(number)

    def _find_lost(self, *, has_died=False):
        """Arm what a dead copy has taken and not claimed; see points 1 and 3 of ``request_queue``.

        Such a connection is disarmed and unclaimed when the copy dies, and stays so. One that a
        living copy has taken is so for microseconds. The first check, at the death, finds all that
        may be lost: later ones only take away from it.
        """
        now = monotonic()
        lost = self._disarmed()
        lost -= self._claimed()
        known = self._suspects
        self._suspects = {}
        for number in lost if has_died else lost & known.keys():
            until, checks = known.get(number, (now + PATIENCE_S, 0))
            if until <= now and checks >= _MIN_CHECKS:
                self._queue.modify(number, ARMED)
            else:
                self._suspects[number] = until, checks + 1

    def _claimed(self):
        """Numbers of the connections that copies are serving."""
        return set().union(*map(claimed, self._all_claims))

    def _disarmed(self):
        """Numbers of connections that some copy has taken, according to the kernel."""
        numbers = set()
        with open("/proc/self/fdinfo/%d" % self._queue.fileno()) as file:
            for line in file:
                if line.startswith("tfd:"):
                    words = line.split()
                    if not int(words[3], 16) & select.EPOLLIN:
                        numbers.add(int(words[1]))
        return numbers & self._open.keys()

    def _shut_idle(self):
        """Shut unused connections: the load balancer would have closed them long ago."""
        in_use = self._claimed()
        unread = {number for number, _ in _readable(self._open)}
        disarmed = self._disarmed()
        for number, connection in self._open.items():
            if number not in in_use and number not in unread and number not in disarmed:
                _shut(connection)


class _CopyChannel:
    """Sends one copy the connections that have been opened and closed."""

    def __init__(self, channel, claims):
        self.socket = channel
        self._claims = claims
        self._queued = []
        self._closed = 0

    def queue(self, numbers):
        self._queued.extend(numbers)
        self._claims[OPENED] += len(numbers)

    def drop(self, number):
        """It is closed. If it is still queued the copy gets its count instead: see OPENED."""
        if number in self._queued:
            self._queued.remove(number)
            self._closed += 1

    def flush(self):
        """Send what is queued; False if some of it must wait until the copy has read."""
        while self._queued or self._closed:
            numbers = self._queued[:MAX_PER_MESSAGE]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", numbers))]
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            message = array("i", [self._closed, *numbers])
            try:
                self.socket.sendmsg([message], rights if numbers else [], flags)
            except OSError as error:
                return error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS)
            del self._queued[:MAX_PER_MESSAGE]
            self._closed = 0
        return True


def _highest_number():
    """The highest number that this process may give its files, and should."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return HIGHEST_NUMBER if limit == resource.RLIM_INFINITY else min(limit, HIGHEST_NUMBER)


def _empty(claims):
    """Clear the claims of a copy that is dead, or not forked yet."""
    claims[CLAIMED] = 0
    for index in range(MORE_CLAIMS, len(claims)):
        claims[index] = 0


def _shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # its peer has closed it already


def _readable(connections):
    poll = select.poll()
    for number in connections:
        poll.register(number, select.POLLIN)
    return poll.poll(0)
