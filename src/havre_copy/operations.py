"""The operations of the control socket: what havre asks of a keeper."""

from havre_copy.samples import read_sample

NAMES = "status, check, sample, record, recorded, capture"


class Operations:
    """Carries out one request at a time; see ``control`` for ``reply``."""

    def __init__(self, *, spec, status, copies, checks):
        self._spec = spec
        self._status = status
        self._copies = copies
        self._checks = checks

    def handle(self, request, reply):
        """``request``: a dict whose ``op`` names the operation."""
        op = request.get("op")
        if op == "status":
            self._status.measure(self._copies)
            reply(self._status.report(self._copies))
        elif op == "check":
            self._checks.begin(request, reply)
        elif op == "sample":
            sample = read_sample(self._spec.artifact, self._spec.max_body)
            reply({"sample": sample and sample.to_json()})
        elif op == "record":
            self._record(request, reply)
        elif op == "capture":
            self._capture(request, reply)
        elif op == "recorded":
            reply(self._copies.recorder.page(request.get("before")))
        else:
            reply({"error": "op must be one of %s, not %r" % (NAMES, op)})

    def _record(self, request, reply):
        limit = request.get("most")
        if not isinstance(limit, int) or not 0 <= limit < 1 << 32:
            reply({"error": "record needs most: how many requests to keep, 0 for none"})
            return
        self._copies.recorder.retain(limit)
        reply(self._status.report(self._copies))

    def _capture(self, request, reply):
        try:
            self._copies.capture_control.set(request.get("percent"), request.get("redact", []))
        except ValueError as error:
            reply({"error": "capture: %s" % error})
            return
        reply(self._status.report(self._copies))
