"""The control socket's ``check``: requests that a forked child answers, never a live copy.

One child answers them all, for it may have to load the model first. When it dies or hangs another
child continues with the next request, up to a few times.
"""

import selectors
from base64 import b64decode, b64encode
from time import monotonic

from havre_copy.samples import Sample

MAX_CHECKS = 4  # at a time
MAX_REQUESTS = 128  # in one: each is a descriptor here
MAX_CHILDREN = 4
MAX_RESPONSE_BYTES = 10 * 1024 * 1024

DIED = "the process that ran the check died%s; see the predict log"
LATE = "the check got no response in time"


class Checks:
    """The running checks. ``fork(requests, limit_s)`` returns a Probe, or raises OSError."""

    def __init__(self, *, selector, fork, limit_s, load_s):
        """Seconds: each request may take ``limit_s``, the first of a child ``load_s`` more."""
        self._selector = selector
        self._fork = fork
        self._limit_s = limit_s
        self._load_s = load_s
        self._checks = []

    def begin(self, request, reply):
        """Start a check. Each response is a reply of its own, in the order of the requests."""
        if len(self._checks) >= MAX_CHECKS:
            reply({"error": "%d checks are under way" % MAX_CHECKS})
            return
        try:
            requests = [_read(stated) for stated in request["requests"]]
            if not 0 < len(requests) <= MAX_REQUESTS:
                raise ValueError
        except (KeyError, ValueError, TypeError, AttributeError):
            reply(
                {
                    "error": "check needs a list of 1 to %d requests, each with body_base64 and,"
                    " if it is not JSON, content_type" % MAX_REQUESTS
                }
            )
            return
        check = _RunningCheck(requests, reply)
        self._checks.append(check)
        self._start(check)

    def next_wake(self):
        """When the first of them is overdue (``monotonic()``), or None."""
        return min((check.probe.ends_at for check in self._checks), default=None)

    def end_late(self):
        for check in list(self._checks):
            if check.probe.ends_at <= monotonic():
                self._fail_request(check, LATE)

    def close(self):
        """In a forked child: close everything."""
        for check in self._checks:
            if check.probe is not None:
                check.probe.close()

    def kill(self):
        for check in self._checks:
            check.probe.end()

    def _start(self, check):
        check.children += 1
        check.probe = None
        try:
            check.probe = self._fork(check.requests, self._limit_s + self._load_s)
        except OSError as error:
            self._abandon(check, "no process can be forked for the check: %s" % error)
            return
        self._watch(check)

    def _watch(self, check):
        events = selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.register(check.probe.socket, events, lambda _events: self._advance(check))

    def _advance(self, check):
        probe = check.probe
        if not probe.advance():
            if not probe.has_more_to_send:
                key = self._selector.get_key(probe.socket)
                self._selector.modify(probe.socket, selectors.EVENT_READ, key.data)
            return
        status, kind, body = probe.result()
        if not status:
            cause = probe.cause()
            self._fail_request(check, DIED % (cause and " (%s)" % cause))
            return
        result = {"status": status, "content_type": kind, "took_s": probe.took_s}
        if len(body) > MAX_RESPONSE_BYTES:
            result["error"] = "the response has %d bytes: too many to show" % len(body)
        else:
            result["body_base64"] = b64encode(body).decode("ascii")
        self._selector.unregister(probe.socket)
        if not self._reply(check, result):
            self._end(check)
            return
        probe.send_next(limit_s=self._limit_s)
        self._watch(check)

    def _fail_request(self, check, error):
        """The child is lost, and so is its current request."""
        self._selector.unregister(check.probe.socket)
        check.probe.end()
        if not self._reply(check, {"status": 0, "error": error}):
            self._checks.remove(check)
        elif check.children < MAX_CHILDREN:
            self._start(check)
        else:
            self._abandon(check, "not tried: %d processes of the check have ended" % MAX_CHILDREN)

    def _abandon(self, check, error):
        while self._reply(check, {"status": 0, "error": error}):
            pass
        self._checks.remove(check)

    def _end(self, check):
        check.probe.end()
        self._checks.remove(check)

    def _reply(self, check, result):
        """Reply to the current request. Whether there is another, and the peer still listens."""
        check.requests.pop(0)
        return check.reply(result) and bool(check.requests)


class _RunningCheck:
    def __init__(self, requests, reply):
        self.requests = requests  # those without a reply
        self.reply = reply
        self.probe = None
        self.children = 0


def _read(stated):
    kind = stated.get("content_type", "application/json").encode("latin-1").strip()
    if b"\r" in kind or b"\n" in kind:
        raise ValueError("a content type is one line")
    return Sample(b64decode(stated["body_base64"], validate=True), kind)
