"""Keeps web pages from driving a server that asks for no signatures.

Such a server listens on loopback only, but so do the browsers of its machine: any page may have
them send requests there, and a page whose name is made to lead to 127.0.0.1 may read the responses.
What gives them away: the ``Host`` that they name, and the ``Origin`` and ``Sec-Fetch-Site`` that
browsers add and scripts cannot change. OCI's clients send neither of the latter.
"""

import re

from havre.balancer.base import OpenTo
from havre.balancer.envoy.matching import all_of, header_is, negation, regex_match
from havre.balancer.envoy.resources import Json
from havre.balancer.refusals import FOREIGN_HOST, FOREIGN_PAGE

_LOOPBACK = (r"localhost", r"127(?:\.[0-9]{1,3}){3}", r"\[::1\]")
_OWN_PAGES = "same-origin|none"
"""``none``: somebody typed the address."""


def strangers(open_to: OpenTo) -> list[tuple[Json, str]]:
    """Predicates on the requests that are to be turned away, and with which refusal."""
    own = "|".join([*_LOOPBACK, *_escaped(open_to.host)])
    named = "|".join(_escaped(*open_to.names))
    hosts = f"{own}|{named}" if named else own
    origins = [rf"http://(?:{own}):{open_to.port}"] if open_to.port else []
    if open_to.port == 80:
        origins.append(rf"http://(?:{own})")
    if named:
        origins.append(rf"https?://(?:{named})(?::[0-9]+)?")
    pages = "|".join(origins)
    return [
        (negation(header_is(":authority", _like(rf"(?:{hosts})(?::[0-9]*)?"))), FOREIGN_HOST),
        (_stated_but_not("sec-fetch-site", _OWN_PAGES), FOREIGN_PAGE),
        (_stated_but_not("origin", pages), FOREIGN_PAGE),
    ]


def _stated_but_not(header: str, allowed: str) -> Json:
    return all_of(header_is(header, regex_match(".*")), negation(header_is(header, _like(allowed))))


def _like(regex: str) -> Json:
    """Names of hosts are the same in capitals."""
    return regex_match(f"(?i:{regex})")


def _escaped(*names: str) -> list[str]:
    return [re.escape(name) for name in names if name]
