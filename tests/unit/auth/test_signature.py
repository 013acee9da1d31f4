"""What OCI's own signer makes is right; anything about it changed is not."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from types import SimpleNamespace

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from oci.signer import Signer

from havre.auth import keys
from havre.auth.signature import Request, has_digest, verify
from havre.domain.errors import NotAuthenticated

KEY, OTHER = keys.new_key(), keys.new_key()
TENANCY = "ocid1.tenancy.oc1..aaaa"
USER = "ocid1.user.oc1..bbbb"
KEY_ID = f"{TENANCY}/{USER}/{keys.fingerprint(KEY.public_key())}"


NOW = datetime.now(UTC)
"""For signers and verifiers alike: a run of all tests may take longer than a signature lives."""


@cache
def signer(key) -> Signer:
    """Made once: it checks the key, which takes longer than a hundred signatures."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    fingerprint = keys.fingerprint(KEY.public_key())
    return Signer(TENANCY, USER, fingerprint, None, private_key_content=pem)


def signed(method: str = "POST", body: bytes | None = b'{"a": 1}', key=KEY) -> Request:
    asked = requests.Request(
        method,
        "http://127.0.0.1:8080//20190101/models?compartmentId=x&limit=3",
        headers={"date": format_datetime(NOW, usegmt=True)}
        | ({"content-type": "application/json"} if body is not None else {}),
        data=body,
    ).prepare()
    asked = signer(key)(asked)
    headers = {name.lower(): str(value) for name, value in asked.headers.items()}
    return Request(method, asked.path_url, headers)


def check(request: Request, *, signs_body: bool = True) -> str:
    known = {KEY_ID: KEY.public_key()}
    return verify(request, known.get, now=NOW, signs_body=signs_body).key_id


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("PUT", b""), ("GET", None)])
def test_what_the_oci_signer_makes_is_right(method, body):
    assert check(signed(method, body), signs_body=body is not None) == KEY_ID


def changed(request: Request, **headers: str | None) -> Request:
    merged = {**request.headers, **{name.replace("_", "-"): v for name, v in headers.items()}}
    return Request(
        request.method, request.target, {k: v for k, v in merged.items() if v is not None}
    )


LATE = format_datetime(NOW - timedelta(minutes=6), usegmt=True)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (changed(signed(), authorization=None), "not signed"),
        (changed(signed(), authorization="Bearer abc"), "not signed"),
        (changed(signed(), authorization='Signature algorithm="hmac"'), "rsa-sha256"),
        (changed(signed(), authorization='Signature algorithm="rsa-sha256"'), "keyId"),
        (
            changed(
                signed(),
                authorization='Signature algorithm="rsa-sha256",keyId="a",headers="date",'
                'signature="%%%"',
            ),
            "base64",
        ),
        (changed(signed(), x_content_sha256="0" * 44), "does not fit"),
        (changed(signed(), host="elsewhere"), "does not fit"),
        (changed(signed(), content_type=None), "does not have"),
        (changed(signed(), date=LATE), "5 minutes"),
        (changed(signed(), date="yesterday"), "not a date"),
        (Request("PUT", signed().target, signed().headers), "does not fit"),
        (Request("POST", "/20190101/models", signed().headers), "does not fit"),
        (signed(key=OTHER), "does not fit"),
        (signed("GET", None), "must cover content-length"),
    ],
)
def test_anything_else_is_refused_with_the_reason(request_, reason):
    with pytest.raises(NotAuthenticated, match=reason):
        check(request_)


def test_a_key_that_is_not_registered_is_named():
    with pytest.raises(NotAuthenticated, match=KEY_ID):
        verify(
            signed(),
            SimpleNamespace(find=lambda _: None).find,
            now=NOW,
            signs_body=True,
        )


def test_the_hash_of_the_body():
    assert has_digest(b"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
    assert not has_digest(b"x", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
