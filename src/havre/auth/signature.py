"""OCI request signatures: what a request must carry, and whether it is right. Pure.

The header is ``Authorization: Signature version="1",keyId="…",algorithm="rsa-sha256",
headers="date (request-target) host …",signature="<base64>"``; signed is one line per listed header,
``name: value``, joined by newlines, with ``(request-target): <method> <path?query>``.
"""

import base64
import binascii
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
TARGET = "(request-target)"
ALWAYS_SIGNED = frozenset({TARGET, "host"})
BODY_SIGNED = frozenset({"content-length", "content-type", "x-content-sha256"})
DATES = ("x-date", "date")

_PARAMETER = re.compile(r'\s*([A-Za-z]+)="([^"]*)"\s*(?:,|$)')

KeyOf = Callable[[str], rsa.RSAPublicKey | None]


@dataclass(frozen=True, slots=True)
class Request:
    """``target`` is the path and query exactly as sent; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signature:
    key_id: str
    headers: tuple[str, ...]
    signature: bytes


def verify(request: Request, key_of: KeyOf, *, now: datetime, signs_body: bool) -> Signature:
    """The request's signature, if it is right. ``signs_body``: the body's hash must be signed too;
    whether the body has that hash is for whoever reads it (`has_digest`).

    Raises NotAuthenticated, saying what is missing or wrong.
    """
    stated = parse(request.headers.get("authorization", ""))
    wanted = ALWAYS_SIGNED | (BODY_SIGNED if signs_body else frozenset())
    if missing := sorted(wanted - set(stated.headers)):
        raise NotAuthenticated(f"the signature must cover {', '.join(missing)}")
    _check_date(request, stated, now)
    key = key_of(stated.key_id)
    if key is None:
        raise NotAuthenticated(
            f"the key {stated.key_id!r} is not known here; `havre oci-config` registers one"
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
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "signature":
        raise NotAuthenticated("the request is not signed: OCI's Authorization header is missing")
    fields = dict(_PARAMETER.findall(rest))
    if fields.get("algorithm", "").lower() != "rsa-sha256" or fields.get("version", "1") != "1":
        raise NotAuthenticated("the signature must be version 1, algorithm rsa-sha256")
    try:
        signature = base64.b64decode(fields["signature"], validate=True)
        return Signature(fields["keyId"], tuple(fields["headers"].lower().split()), signature)
    except (KeyError, binascii.Error) as error:
        raise NotAuthenticated(
            "the Authorization header must have keyId, headers and a base64 signature"
        ) from error


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
    try:
        moment = parsedate_to_datetime(request.headers.get(name, ""))
    except ValueError as error:
        raise NotAuthenticated(f"{name} is not a date as in RFC 7231") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if abs(now - moment) > CLOCK_SKEW:
        raise NotAuthenticated(
            f"{name} is more than 5 minutes from this server's clock ({now:%Y-%m-%dT%H:%M:%SZ})"
        )
