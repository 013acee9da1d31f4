"""OCI request signatures: what a request must carry, and whether it is right. Pure.

The header is ``Authorization: Signature version="1",keyId="…",algorithm="rsa-sha256",
headers="date (request-target) host …",signature="<base64>"``; signed is one line per listed header,
``name: value``, joined by newlines, with ``(request-target): <method> <path?query>``.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from havre.domain.errors import NotAuthenticated

CLOCK_SKEW = timedelta(minutes=5)
WRONG_CLOCK = " is more than 5 minutes from this server's clock"
TARGET = "(request-target)"
ALWAYS_SIGNED = frozenset({TARGET, "host"})
BODY_SIGNED = frozenset({"content-length", "content-type", "x-content-sha256"})
DATES = ("x-date", "date")

LONGEST_AUTHORIZATION = 8192
"""Characters. Those of OCI's clients have about 700."""
MAX_SIGNED_HEADERS = 32
LONGEST_DATE = 64

_PARAMETER = re.compile(r'([A-Za-z]+)="([^"]*)" *(,?) *')

KeyOf = Callable[[str], rsa.RSAPublicKey | None]


@dataclass(frozen=True, slots=True)
class Request:
    """``target`` is the path and query exactly as sent; header names are in lower case.
    ``repeated`` are the names of headers that came more than once.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    repeated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Signature:
    key_id: str
    headers: tuple[str, ...]
    signature: bytes


def verify(request: Request, key_of: KeyOf, *, now: datetime, signs_body: bool) -> Signature:
    """The request's signature, if it is right. ``signs_body``: the body's hash must be signed too;
    whether the body has that hash is checked by its reader (`has_digest`).

    Raises NotAuthenticated, saying what is missing or wrong.
    """
    stated = parse(request.headers.get("authorization", ""))
    if twice := sorted(request.repeated & {"authorization", *stated.headers}):
        raise NotAuthenticated(f"{', '.join(twice)} must come once")
    required = ALWAYS_SIGNED | (BODY_SIGNED if signs_body else frozenset())
    if missing := sorted(required - set(stated.headers)):
        raise NotAuthenticated(f"the signature must cover {', '.join(missing)}")
    _check_date(request, stated, now)
    key = key_of(stated.key_id)
    if key is None:
        raise NotAuthenticated(
            f"the key {stated.key_id[:200]!r} is not known here; `havre oci-config` registers one"
        )
    try:
        key.verify(
            stated.signature, signing_text(request, stated), padding.PKCS1v15(), hashes.SHA256()
        )
    except InvalidSignature as error:
        raise NotAuthenticated(
            "the signature does not fit the request: the key, or something that was signed, differs"
        ) from error
    return stated


def has_digest(body: bytes, stated: str) -> bool:
    """Whether ``x-content-sha256`` is that of the body."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode() == stated


def parse(authorization: str) -> Signature:
    """Raises NotAuthenticated when the header is absent or of another form."""
    if len(authorization) > LONGEST_AUTHORIZATION:
        raise NotAuthenticated(
            f"the Authorization header is longer than {LONGEST_AUTHORIZATION} characters"
        )
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "signature":
        raise NotAuthenticated("the request is not signed: OCI's Authorization header is missing")
    fields = _parameters(rest.lstrip(" "))
    if fields.get("algorithm", "").lower() != "rsa-sha256" or fields.get("version", "1") != "1":
        raise NotAuthenticated("the signature must be version 1, algorithm rsa-sha256")
    try:
        signature = base64.b64decode(fields["signature"], validate=True)
        key_id, names = fields["keyId"], tuple(fields["headers"].lower().split())
    except (KeyError, ValueError) as error:  # ValueError: not base64, or not even ASCII
        raise NotAuthenticated(
            "the Authorization header must have keyId, headers and a base64 signature"
        ) from error
    if len(names) > MAX_SIGNED_HEADERS or len(set(names)) < len(names):
        raise NotAuthenticated(
            f"a signature covers at most {MAX_SIGNED_HEADERS} headers, each named once"
        )
    return Signature(key_id, names, signature)


def _parameters(text: str) -> dict[str, str]:
    """``name="value"`` and so on, commas between; read once, from the front."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match[1] in fields or bool(match[3]) != (match.end() < len(text)):
            raise NotAuthenticated(
                'the Authorization header must be a list of name="value", each name once'
            )
        fields[match[1]] = match[2]
        at = match.end()
    return fields


def signing_text(request: Request, stated: Signature) -> bytes:
    """What was signed. Raises NotAuthenticated when a listed header is not there."""
    lines = []
    for name in stated.headers:
        if name == TARGET:
            value = f"{request.method.lower()} {request.target}"
        elif name in request.headers:
            value = request.headers[name]
        else:
            raise NotAuthenticated(f"the signature covers {name}, which the request does not have")
        lines.append(f"{name}: {value}")
    return "\n".join(lines).encode()


def _check_date(request: Request, stated: Signature, now: datetime) -> None:
    name = next((name for name in DATES if name in stated.headers), None)
    if name is None:
        raise NotAuthenticated("the signature must cover date or x-date")
    date = request.headers.get(name, "")
    try:
        moment = parsedate_to_datetime(date if len(date) <= LONGEST_DATE else "")
    except (ValueError, OverflowError) as error:
        raise NotAuthenticated(f"{name} is not a date as in RFC 7231") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if abs(now - moment) > CLOCK_SKEW:
        raise NotAuthenticated(f"{name}{WRONG_CLOCK} ({now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ})")
