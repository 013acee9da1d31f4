"""The instance's one queue, as a copy sees it: all copies wait on the same connections.

The keeper accepts, and puts every connection into one epoll that it made before it forked. All
processes have each connection at the same number, because an epoll knows an entry by its open file
*and* its number. Entries are one-shot: the kernel gives a readable connection to one waiting copy,
in the order of arrival, and to no other until it is armed again. So no request waits while a copy
is idle, and no two copies read from one connection.

What a copy does, and what its death at each point means:

1. It waits, and gets a number. The connection is now disarmed, and nobody knows by whom: a death
   here leaves it *lost*. Nothing has been read. The keeper finds what is disarmed but in nobody's
   hand, waits until no living copy can be between 1 and 2 with it, and arms it (``connections``).
   Should the system have kept a copy from running for all that time, two may hold one connection:
   who then finds nothing to read leaves it to the other.
2. It writes the number into its hand, and reads. A death from here on fails this one request: the
   keeper shuts the connection that the dead copy's hand names.
   With batching a copy then takes more of what is waiting, one place of its hand for each, and a
   death fails them all.
3. It answers, empties its hand, and only then arms the connection again: so the keeper never shuts
   one that is another's already. A death in between leaves it lost, as in 1.

Connections are closed by the load balancer when idle, by us only after an answer that said so.
Either way the keeper sees it hang up, takes it out of the epoll and gives its number to another,
but never while a hand names it: who is in a long ``predict()`` still has the old file there.

A copy learns of new connections when it needs to: before it uses what it waited for, it takes what
the keeper has sent. When the keeper is dead, the copies serve on with what they have, and whoever
is idle accepts a connection for itself, for one request.
"""

import _socket
import errno
import mmap
import os
import select
import signal
from array import array
from socket import (
    AF_UNIX,
    CMSG_LEN,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    SHUT_RDWR,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
)
from struct import pack
from time import monotonic

from havre_copy.childhood import handle_here_alone

Connection = _socket.socket  # a file's number is all it needs to know

DRAINED = 0  # exit code: the queue was empty and closed
TOLD_TO_LEAVE = 10  # exit code: SIGTERM
OUT_OF_DESCRIPTORS = 11

# A copy's hand: words of shared memory.
HELD = 0  # number of the connection it serves; 0: none. Written by the copy
OPENED = 1  # how many connections it is, or will be, told of. Written by the keeper
ENDING = 2  # OPEN, or: answers end their connections; or: nothing will come. Written by the keeper
OPEN, DRAINING, OVER = range(3)
MORE = 3  # and on: numbers of the others that it serves with that one; 0: none
_LINE = 64  # bytes; no hand shares a cache line with another
_WORDS = "Q"
NO_QUEUE = (0, 0, DRAINING)  # the hand of a process that serves connections of its own

ARMED = select.EPOLLIN | select.EPOLLONESHOT
MOST_AT_ONCE = 64  # connections told of in one message
READ_AT_ONCE = 64 * 1024
_GONE = select.EPOLLHUP | select.EPOLLERR
_NOTHING = (0, 0)
_OUT_OF_DESCRIPTORS = "no file descriptors left: score.py does not close its files"
# One that waits for work takes at least so often what the keeper has sent it: until then those
# connections count as open, and against the number of files that a user may have under way.
_NAP_S = 10
READ_STALL_S = 10  # a peer that sends nothing for so long is gone
WRITE_STALL_S = 30  # one that reads nothing of its answer for so long, too
_READ_STALL = pack("ll", READ_STALL_S, 0)
_WRITE_STALL = pack("ll", WRITE_STALL_S, 0)


class OutOfDescriptors(Exception):
    """The model's files have used up the numbers."""


def make_hands(copies, most):
    """Shared memory, a hand per copy, each with places for so many connections."""
    used = (MORE + most - 1) * 8
    apart = -(-used // _LINE) * _LINE
    whole = memoryview(mmap.mmap(-1, copies * apart))
    return [whole[n * apart : n * apart + used].cast(_WORDS) for n in range(copies)]


def held(hand):
    """Numbers of the connections that a copy serves."""
    return {hand[HELD], *hand[MORE:]} - {0}


def limit_stalls(connection):
    """Bound how long a peer may let us wait; said once, for all processes that have the file."""
    connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _READ_STALL)
    connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _WRITE_STALL)


class FairQueue:
    """One copy's place at the queue.

    ``epoll``, ``listener`` and ``life`` (whose other end only the keeper has) are descriptors, the
    same in every process; ``numbers`` those of the connections that the fork has brought along, all
    of them at or above ``first``; ``channel`` is the socket on which the keeper sends new ones.
    """

    def __init__(self, *, epoll, listener, life, channel, hand, numbers, first, journal):
        self._hand = hand
        self._channel = channel
        self._first = first
        self._listener = listener
        self._accept_one = Connection(AF_UNIX, SOCK_STREAM, 0, listener)._accept
        self._life = life
        self._journal = journal
        self._told = 0
        self._connections = {number: _connection(number) for number in numbers}
        self._private = None
        self._leaves_with = None
        self._code = DRAINED
        self._arm = select.epoll.fromfd(os.dup(epoll)).modify
        # A second descriptor to wait at, which a signal can replace at any moment.
        self._wait_at = os.dup(epoll)
        self._wait = select.epoll.fromfd(self._wait_at).poll

    def leave_at_sigterm(self):
        self._nothing = Connection(AF_UNIX, SOCK_STREAM)
        handle_here_alone(signal.SIGTERM, lambda _signum, _frame: self._leave(TOLD_TO_LEAVE))

    def _leave(self, code):
        # Waiting is taken up again after a signal, on whatever is there by then: on a socket it
        # fails, and no connection can be lost.
        self._leaves_with = code
        os.dup2(self._nothing.fileno(), self._wait_at, False)

    def take(self):
        """``(connection, its first bytes)`` of the next request, or None: leave with ``code``."""
        hand = self._hand
        while True:
            try:
                ready = self._wait(_NAP_S, 1)
            except OSError:
                if self._leaves_with is None:
                    raise
                self._code = self._leaves_with
                return None
            number, events = ready[0] if ready else _NOTHING
            hand[HELD] = number
            try:
                if hand[OPENED] != self._told:
                    self._take_news()
                connection = self._connections.get(number)
                if connection is None:
                    connection = self._take_other(number)
            except _Leave:
                return None
            except OutOfDescriptors:
                hand[HELD] = 0  # lost, not failed: nothing has been read
                self._journal.say(_OUT_OF_DESCRIPTORS)
                self._code = OUT_OF_DESCRIPTORS
                return None
            if connection is None or events & _GONE:
                # Its request has waited longer than it wanted to; the keeper puts it away.
                hand[HELD] = 0
                continue
            try:
                data = connection.recv(READ_AT_ONCE, 0 if self._private else MSG_DONTWAIT)
            except BlockingIOError:
                # Nothing to read means that another copy was quicker, and will arm it.
                if not self._private:
                    hand[HELD] = 0
                    continue
                data = b""
            except OSError:
                data = b""
            if data:
                return connection, data
            self.put_back(connection, is_usable=False)

    def take_more(self, most, within_s):
        """Up to ``most`` further requests that wait now, or come in that time.

        ``[(connection, its first bytes, place), …]``; the place is for ``put_back``.
        """
        if self._private is not None:
            return []  # the keeper is dead: one at a time
        # Were the load balancer about to bring more, and waited for this processor: it may first.
        os.sched_yield()
        hand = self._hand
        ready = []
        left = within_s
        give_up = monotonic() + within_s
        while len(ready) < most:
            try:
                some = self._wait(left, most - len(ready))
            except OSError:
                break  # told to leave, which take() will find
            for place, (number, _) in enumerate(some, MORE + len(ready)):
                hand[place] = number
            ready += some
            left = give_up - monotonic()
            if left <= 0 or not some:
                break
        found = []
        for place, (number, events) in enumerate(ready, MORE):
            data = None
            try:
                if hand[OPENED] != self._told and self._leaves_with != OUT_OF_DESCRIPTORS:
                    self._take_news()
                connection = self._connections.get(number)
                if connection is not None and not events & _GONE:
                    data = connection.recv(READ_AT_ONCE, MSG_DONTWAIT)
            except OutOfDescriptors:  # this one is lost, not failed: nothing has been read
                self._journal.say(_OUT_OF_DESCRIPTORS)
                self._leave(OUT_OF_DESCRIPTORS)
            except OSError:
                pass  # another copy has it, or it is gone: the keeper puts it away
            if data:
                found.append((connection, data, place))
            elif data is not None:
                self.put_back(connection, is_usable=False, place=place)
            else:
                hand[place] = 0
        return found

    @property
    def code(self):
        """Why ``take`` returned nothing: the exit code."""
        return self._code

    def put_back(self, connection, *, is_usable, place=HELD):
        """The request is answered; ``is_usable``: the connection may bring another."""
        if self._private is not None:
            self._private = None
            self._hand[ENDING] = OPEN
            connection.close()
            return
        if is_usable:
            self._hand[place] = 0
            try:
                self._arm(connection, ARMED)
            except FileNotFoundError:
                pass  # its peer has hung up: the keeper has put it away
            return
        try:
            connection.shutdown(SHUT_RDWR)
        except OSError:
            pass  # its peer was quicker
        self._hand[place] = 0

    def _take_news(self):
        """Put what the keeper has sent to its place. Raises OutOfDescriptors."""
        rights = CMSG_LEN(MOST_AT_ONCE * array("i").itemsize)
        while self._channel is not None and self._told != self._hand[OPENED]:
            data, control, flags, _ = self._channel.recvmsg(4096, rights, MSG_CMSG_CLOEXEC)
            if not data:
                self._channel = None  # the keeper is dead
                return
            void, *numbers = array("i", data)  # how many are closed again; the others
            files = array("i")
            for _, _, sent in control:
                files.frombytes(sent[: len(sent) // files.itemsize * files.itemsize])
            if flags & MSG_CTRUNC or len(files) < len(numbers):
                raise OutOfDescriptors
            for number, file in zip(numbers, files):
                self._place(number, file)
            self._told += void + len(numbers)

    def _place(self, number, file):
        is_known = number in self._connections
        # Files get the lowest numbers: the model's own have come up to ours.
        if file >= self._first or not (is_known or _is_free(number)):
            raise OutOfDescriptors
        os.dup2(file, number, False)
        os.close(file)
        if not is_known:
            self._connections[number] = _connection(number)

    def _take_other(self, number):
        """What is no connection of the keeper's: the end of the keeper, or of the queue."""
        if number == self._life:
            self._watch_listener()
        elif number == self._listener:
            if self._hand[ENDING] == OVER:
                raise _Leave
            return self._accept()
        return None  # opened by a keeper that died before it could tell

    def _watch_listener(self):
        """The keeper is dead: from now on copies accept. One of them arranges it for all."""
        epoll = select.epoll.fromfd(os.dup(self._wait_at))
        try:
            if self._hand[ENDING] == OPEN:
                epoll.register(self._listener, select.EPOLLIN)
        except OSError:
            pass  # another has
        try:
            epoll.unregister(self._life)
        except OSError:
            pass
        epoll.close()

    def _accept(self):
        try:
            number, _ = self._accept_one()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise OutOfDescriptors from None
            return None
        self._private = _connection(number)
        self._hand[ENDING] = DRAINING
        limit_stalls(self._private)
        return self._private


class _Leave(Exception):
    """The queue is drained."""


def _connection(number):
    return Connection(AF_UNIX, SOCK_STREAM, 0, number)


def _is_free(number):
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
