"""The instance's one queue, as a copy (worker process) sees it: all copies wait on the same
connections.

The keeper accepts, and puts every connection into one epoll that it made before it forked. All
processes have each connection at the same number, because an epoll knows an entry by its open file
*and* its number. Entries are one-shot: the kernel gives a readable connection to one waiting copy,
in the order of arrival, and to no other until it is armed again. So no request waits while a copy
is idle, and no two copies read from one connection.

What a copy does, and what its death at each point means:

1. It waits, and gets a number. The connection is now disarmed, and nothing records by whom: a death
   here leaves it *lost*. Nothing has been read. The keeper finds connections that are disarmed but
   claimed by no copy, waits until no living copy can be between 1 and 2 with them, and arms them
   (``connections``). If the system has kept a copy from running for all that time, two copies may
   use one connection: the one that then finds nothing to read leaves it to the other.
2. It writes the number into its claims, and reads. A death from here on fails this one request: the
   keeper shuts the connection that the dead copy's claims name.
   With batching a copy then takes more requests that are waiting, one claim for each, and a death
   fails them all.
3. It answers, clears its claim, and only then arms the connection again: so the keeper never shuts
   one that another copy has by now. A death in between leaves it lost, as in 1.

Connections are closed by the load balancer when idle, by us only after a response that said so.
Either way the keeper sees the hang-up, takes the connection out of the epoll and reuses its number,
but never while a claim names it: a copy in a long ``predict()`` still has the old file there.

A copy receives new connections when it needs to: before it uses the number it has waited for, it
receives what the keeper has sent. When the keeper is dead, the copies continue with the connections
that they have, and an idle copy accepts a connection for itself, for one request.
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
from time import monotonic, sleep

from havre_copy.after_fork import handle_in_this_process_only

Connection = _socket.socket  # made of a descriptor alone

DRAINED = 0  # exit code: the queue was empty and closed
TERMINATED = 10  # exit code: SIGTERM
OUT_OF_DESCRIPTORS = 11

# A copy's claims: words of shared memory that name the connections it serves.
CLAIMED = 0  # number of the connection it serves; 0: none. Written by the copy
OPENED = 1  # how many connections were, or will be, sent to it. Written by the keeper
ENDING = 2  # OPEN, or: responses end their connections; or: nothing will come. By the keeper
OPEN, DRAINING, OVER = range(3)
MORE_CLAIMS = 3  # and on: numbers of the others that it serves with that one; 0: none
_LINE = 64  # bytes; no two copies' claims share a cache line
_WORDS = "Q"
NO_CLAIMS = (0, 0, DRAINING)  # of a process that serves connections of its own

ARMED = select.EPOLLIN | select.EPOLLONESHOT
MAX_PER_MESSAGE = 64  # connections that one message brings
READ_AT_ONCE = 64 * 1024
_GONE = select.EPOLLHUP | select.EPOLLERR
_NOTHING = (0, 0)
_OUT_OF_DESCRIPTORS = "no file descriptors left: score.py does not close its files"
# An idle copy receives what the keeper has sent it at least this often: until then the kernel
# counts those connections as files in flight, of which a user may have only so many.
_MAX_WAIT_S = 10
READ_STALL_S = 10  # a peer that sends nothing for this long is gone
_POLL_EVERY_S = 0.01  # while it waits for the keeper's decision
WRITE_STALL_S = 30  # a peer that reads nothing of its response for this long is gone, too
_READ_STALL = pack("ll", READ_STALL_S, 0)
_WRITE_STALL = pack("ll", WRITE_STALL_S, 0)


class OutOfDescriptors(Exception):
    """The model's files have used up the numbers that are ours."""


def make_claims(copies, limit):
    """Shared memory: per copy a row of words that can name up to ``limit`` connections."""
    used = (MORE_CLAIMS + limit - 1) * 8
    apart = -(-used // _LINE) * _LINE
    whole = memoryview(mmap.mmap(-1, copies * apart))
    return [whole[n * apart : n * apart + used].cast(_WORDS) for n in range(copies)]


def claimed(claims):
    """Numbers of the connections that the copy with these claims serves."""
    return {claims[CLAIMED], *claims[MORE_CLAIMS:]} - {0}


def limit_stalls(connection):
    """Bound how long a peer may keep us waiting; once, for all processes that have the file."""
    connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _READ_STALL)
    connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _WRITE_STALL)


class RequestQueue:
    """One copy's end of the queue.

    ``epoll``, ``listener`` and ``life`` (whose other end only the keeper has) are descriptors, the
    same in every process; ``numbers`` those of the connections that the fork has inherited, all of
    them at or above ``first``; ``channel`` is the socket on which the keeper sends new ones.
    """

    def __init__(self, *, epoll, listener, life, channel, claims, numbers, first, logger):
        self._claims = claims
        self._channel = channel
        self._first = first
        self._listener = listener
        self._accept_one = Connection(AF_UNIX, SOCK_STREAM, 0, listener)._accept
        self._life = life
        self._logger = logger
        self._received = 0
        self._connections = {number: _connection(number) for number in numbers}
        self._private = None
        self._exits_with = None
        self._exit_code = DRAINED
        self._arm = select.epoll.fromfd(os.dup(epoll)).modify
        # A second descriptor to wait on, which a signal handler can replace at any moment.
        self._wait_descriptor = os.dup(epoll)
        self._wait = select.epoll.fromfd(self._wait_descriptor).poll

    def exit_on_sigterm(self, is_predicting, ask):
        """From now on. ``is_predicting()``: whether the model's code is working on a request;
        ``ask()`` asks the keeper who has sent the signal. See ``_on_sigterm``.
        """
        handle_in_this_process_only(
            signal.SIGTERM, lambda _signum, _frame: self._on_sigterm(is_predicting, ask)
        )

    def _on_sigterm(self, is_predicting, ask):
        """Exit after the current request, unless it is this request that has sent the signal.

        Some libraries end a process that they find unfit by ``raise(SIGTERM)``, and continue if
        that returns: what predict() returns after that must not be sent. A signal does not say who
        has sent it, but whoever ends an instance signals its keeper, too. So we wait until the
        keeper says that the instance ends; if it has received no signal, it kills us. Once it has
        said so, or is dead, every sender is believed.
        """
        if is_predicting() and self._must_wait_for_keeper():
            ask()
            while self._must_wait_for_keeper():
                sleep(_POLL_EVERY_S)
        self._exit_with(TERMINATED)

    def _must_wait_for_keeper(self):
        """Whether the keeper lives, and has not said that the instance ends."""
        keeper = select.poll()
        keeper.register(self._life, 0)
        return self._claims[ENDING] == OPEN and not keeper.poll(0)

    def _exit_with(self, exit_code):
        # After a signal Python resumes waiting, on whatever the descriptor is by then: on a socket
        # it fails, and no connection can be lost. Any socket will do; a confined process may not
        # be allowed to make one.
        self._exits_with = exit_code
        os.dup2(self._listener, self._wait_descriptor, False)

    def take(self):
        """``(connection, its first bytes)`` of the next request; None: exit with ``exit_code``."""
        claims = self._claims
        while True:
            try:
                ready = self._wait(_MAX_WAIT_S, 1)
            except OSError:
                if self._exits_with is None:
                    raise
                self._exit_code = self._exits_with
                return None
            number, events = ready[0] if ready else _NOTHING
            claims[CLAIMED] = number
            try:
                if claims[OPENED] != self._received:
                    self._receive_connections()
                connection = self._connections.get(number)
                if connection is None:
                    connection = self._take_special(number)
            except _Drained:
                return None
            except OutOfDescriptors:
                claims[CLAIMED] = 0  # lost, not failed: nothing has been read
                self._logger.log(_OUT_OF_DESCRIPTORS)
                self._exit_code = OUT_OF_DESCRIPTORS
                return None
            if connection is None or events & _GONE:
                # Its client has given up waiting; the keeper closes the connection.
                claims[CLAIMED] = 0
                continue
            try:
                data = connection.recv(READ_AT_ONCE, 0 if self._private else MSG_DONTWAIT)
            except BlockingIOError:
                # Nothing to read means that another copy was quicker, and will arm it.
                if not self._private:
                    claims[CLAIMED] = 0
                    continue
                data = b""
            except OSError:
                data = b""
            if data:
                return connection, data
            self.release(connection, is_usable=False)

    def take_more(self, limit, within_s):
        """Up to ``limit`` further requests that wait now, or arrive within ``within_s``.

        ``[(connection, its first bytes, claim), …]``; ``release`` needs the claim.
        """
        if self._private is not None:
            return []  # the keeper is dead: one at a time
        # The load balancer may be about to bring more, and wait for this processor: let it run.
        os.sched_yield()
        claims = self._claims
        ready = []
        left = within_s
        deadline = monotonic() + within_s
        while len(ready) < limit:
            try:
                some = self._wait(left, limit - len(ready))
            except OSError:
                break  # asked to exit, which take() will notice
            for claim, (number, _) in enumerate(some, MORE_CLAIMS + len(ready)):
                claims[claim] = number
            ready += some
            left = deadline - monotonic()
            if left <= 0 or not some:
                break
        requests = []
        for claim, (number, events) in enumerate(ready, MORE_CLAIMS):
            data = None
            try:
                if claims[OPENED] != self._received and self._exits_with != OUT_OF_DESCRIPTORS:
                    self._receive_connections()
                connection = self._connections.get(number)
                if connection is not None and not events & _GONE:
                    data = connection.recv(READ_AT_ONCE, MSG_DONTWAIT)
            except OutOfDescriptors:  # this one is lost, not failed: nothing has been read
                self._logger.log(_OUT_OF_DESCRIPTORS)
                self._exit_with(OUT_OF_DESCRIPTORS)
            except OSError:
                pass  # another copy has it, or it is gone: the keeper closes it
            if data:
                requests.append((connection, data, claim))
            elif data is not None:
                self.release(connection, is_usable=False, claim=claim)
            else:
                claims[claim] = 0
        return requests

    @property
    def exit_code(self):
        """Why ``take`` returned nothing: the exit code."""
        return self._exit_code

    def release(self, connection, *, is_usable, claim=CLAIMED):
        """The request is answered; ``is_usable``: another may follow on the connection."""
        if self._private is not None:
            self._private = None
            self._claims[ENDING] = OPEN
            connection.close()
            return
        if is_usable:
            self._claims[claim] = 0
            try:
                self._arm(connection, ARMED)
            except FileNotFoundError:
                pass  # its peer has hung up: the keeper has closed it
            return
        try:
            connection.shutdown(SHUT_RDWR)
        except OSError:
            pass  # its peer has closed it already
        self._claims[claim] = 0

    def _receive_connections(self):
        """Install the connections that the keeper has sent. Raises OutOfDescriptors."""
        rights = CMSG_LEN(MAX_PER_MESSAGE * array("i").itemsize)
        while self._channel is not None and self._received != self._claims[OPENED]:
            data, control, flags, _ = self._channel.recvmsg(4096, rights, MSG_CMSG_CLOEXEC)
            if not data:
                self._channel = None  # the keeper is dead
                return
            closed, *numbers = array("i", data)  # how many are closed again; the open ones
            files = array("i")
            for _, _, sent in control:
                files.frombytes(sent[: len(sent) // files.itemsize * files.itemsize])
            if flags & MSG_CTRUNC or len(files) < len(numbers):
                raise OutOfDescriptors
            for number, file in zip(numbers, files):
                self._install(number, file)
            self._received += closed + len(numbers)

    def _install(self, number, file):
        is_known = number in self._connections
        # Files get the lowest free numbers: the model's own have reached ours.
        if file >= self._first or not (is_known or _is_free(number)):
            raise OutOfDescriptors
        os.dup2(file, number, False)
        os.close(file)
        if not is_known:
            self._connections[number] = _connection(number)

    def _take_special(self, number):
        """An event of what is no connection: the keeper has died, or the queue has ended."""
        if number == self._life:
            self._watch_listener()
        elif number == self._listener:
            if self._claims[ENDING] == OVER:
                raise _Drained
            return self._accept()
        return None  # opened by a keeper that died before it could send it

    def _watch_listener(self):
        """The keeper is dead: from now on copies accept. The first one arranges it for all."""
        epoll = select.epoll.fromfd(os.dup(self._wait_descriptor))
        try:
            if self._claims[ENDING] == OPEN:
                epoll.register(self._listener, select.EPOLLIN)
        except OSError:
            pass  # another copy has
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
        self._claims[ENDING] = DRAINING
        limit_stalls(self._private)
        return self._private


class _Drained(Exception):
    """The queue is drained."""


def _connection(number):
    return Connection(AF_UNIX, SOCK_STREAM, 0, number)


def _is_free(number):
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
