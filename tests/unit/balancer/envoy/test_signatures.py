"""What Envoy runs to verify signatures, in the Lua that it runs them in, beside the API's own."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lupa.luajit21 import LuaRuntime
from tests.support.worst_runs import LIMIT_S, RUNS, cost_s
from tests.unit.auth.test_signature import KEY, KEY_ID, NOW, OTHER, changed, signed

from havre.auth import signature
from havre.auth.signature import Request, verify
from havre.balancer.envoy import signatures
from havre.balancer.envoy.listener import LENIENT_PATHS
from havre.balancer.envoy.signatures import BODY_HEADER, VERIFY
from havre.domain.errors import NotAuthenticated

HANDLE = """
return function(fields, repeated, keys, verify)
  local handle = {}
  local headers = {}
  function headers:get(name) return fields[name] end
  function headers:getNumValues(name)
    return fields[name] == nil and 0 or repeated[name] and 2 or 1
  end
  function headers:replace(name, value) fields[name] = value end
  local metadata = {}
  function metadata:get(id) return keys[id] end
  local host = {}
  function host:metadata() return metadata end
  local key = {}
  function key:get() return self.der end
  function handle:headers() return headers end
  function handle:virtualHost() return host end
  function handle:importPublicKey(der, length)
    assert(#der == length)
    return setmetatable({der = der}, {__index = key})
  end
  function handle:verifySignature(hash, key, signature, length, text, size)
    assert(hash == "sha256" and #signature == length and #text == size)
    return verify(key, signature, text)
  end
  function handle:respond(headers, body)
    fields.answered, fields.told = headers[":status"], body
  end
  function handle:clearRouteCache() fields.rerouted = "yes" end
  return handle
end
"""


def _is_right(der: bytes, stated: bytes, text: bytes) -> bool:
    key = serialization.load_der_public_key(der)
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(stated, text, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


class Envoy:
    """The filter's code with what Envoy hands to it; keys are as the routes carry them."""

    def __init__(self, code: str) -> None:
        self._lua: Any = LuaRuntime(encoding=None)
        self._lua.execute(code.encode())
        self._make = self._lua.execute(HANDLE.encode())
        der = KEY.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._keys = {KEY_ID.encode(): base64.b64encode(der)}

    def headers_after(self, request: Request) -> Mapping[bytes, bytes]:
        fields = {name.encode(): value.encode() for name, value in request.headers.items()}
        fields[b":method"], fields[b":path"] = request.method.encode(), request.target.encode()
        fields[b":authority"] = fields.get(b"host", b"")
        table = self._lua.table_from(fields)
        repeated = self._lua.table_from({name.encode(): True for name in request.repeated})
        handle = self._make(table, repeated, self._lua.table_from(self._keys), _is_right)
        self._lua.globals()[b"envoy_on_request"](handle)
        return dict(table)

    def lets_in(self, request: Request) -> bool:
        return b"answered" not in self.headers_after(request)


# For both the time stands still.
SIGNED = signed()
ENVOY = Envoy(f"os.time = function() return {int(NOW.timestamp())} end {VERIFY}")


def the_api_lets_in(request: Request) -> bool:
    known = {KEY_ID: KEY.public_key()}
    try:
        verify(request, known.get, now=NOW, signs_body=True)
    except NotAuthenticated:
        return False
    return True


def test_what_the_oci_signer_makes_is_right_and_the_copy_is_told_the_hash() -> None:
    request = Request(SIGNED.method, SIGNED.target, {**SIGNED.headers, BODY_HEADER: "forged"})
    after = ENVOY.headers_after(request)
    assert b"answered" not in after
    assert after[BODY_HEADER.encode()].decode() == request.headers["x-content-sha256"]


def _authorization(old: str, new: str) -> Request:
    assert old in STATED
    return changed(SIGNED, authorization=STATED.replace(old, new))


def _repeated(name: str) -> Request:
    return Request(SIGNED.method, SIGNED.target, SIGNED.headers, frozenset({name}))


STATED = SIGNED.headers["authorization"]
LONG_AGO = format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)

RIGHT = {
    "spaces between": _authorization('",', '" ,  '),
    "its scheme in capitals": _authorization("Signature ", "SIGNATURE  "),
    "repeated, but not signed": _repeated("cookie"),
}
WRONG = {
    "none": changed(SIGNED, authorization=None),
    "another scheme": changed(SIGNED, authorization="Bearer abc"),
    "the scheme alone": changed(SIGNED, authorization="Signature"),
    "another key": signed(key=OTHER),
    "an unknown key": _authorization('keyId="', 'keyId="x'),
    "not base64": _authorization('signature="', 'signature="%'),
    "not even ASCII": _authorization('signature="', 'signature="é'),
    "twice the same parameter": _authorization(STATED, STATED + ',version="1"'),
    "two lists of headers": _authorization(STATED, STATED + ',headers="date"'),
    "a comma at the end": _authorization(STATED, STATED + ","),
    "a comma missing": _authorization('",', '" '),
    "no quotes": _authorization('algorithm="rsa-sha256"', "algorithm=rsa-sha256"),
    "a quote missing": _authorization('rsa-sha256"', "rsa-sha256"),
    "something before": _authorization("Signature ", "Signature x "),
    "too long": _authorization(STATED, STATED + f',a="{"b" * signatures.LONGEST_AUTHORIZATION}"'),
    "a header named twice": _authorization('headers="', 'headers="date '),
    "a header named very often": _authorization('headers="', 'headers="' + "date " * 900),
    "too many headers": _authorization(
        'headers="', 'headers="' + " ".join(f"x-{n}" for n in range(40)) + " "
    ),
    "a header that is not there": _authorization('headers="', 'headers="x-none '),
    "an old date": changed(SIGNED, date=LONG_AGO),
    "no date": changed(SIGNED, date="x"),
    "a long date": changed(SIGNED, date=SIGNED.headers["date"] + " " * 100),
    "the body's hash changed": changed(SIGNED, x_content_sha256="0" * 44),
    "another host": changed(SIGNED, host="elsewhere"),
    "another method": Request("PUT", SIGNED.target, SIGNED.headers),
    "another path": Request("POST", "/20190101/models", SIGNED.headers),
    "two of Authorization": _repeated("authorization"),
    "two dates": _repeated("date"),
    "two hashes": _repeated("x-content-sha256"),
    "a body that is not signed": signed("GET", None),
}


@pytest.mark.parametrize("what", RIGHT)
def test_both_let_in(what: str) -> None:
    assert ENVOY.lets_in(RIGHT[what])
    assert the_api_lets_in(RIGHT[what])


@pytest.mark.parametrize("what", WRONG)
def test_both_refuse(what: str) -> None:
    assert not ENVOY.lets_in(WRONG[what])
    assert not the_api_lets_in(WRONG[what])


@pytest.mark.parametrize("name", ["date", "x_date"])
def test_a_wrong_clock_is_named_as_the_api_names_it(name: str) -> None:
    """Who sends it looks for a wrong key else."""
    request = signed()
    if name == "x_date":
        covering = STATED.replace('headers="', 'headers="x-date ')
        request = changed(request, authorization=covering)
    request = changed(request, **{name: LONG_AGO})
    told = ENVOY.headers_after(request)[b"told"].decode()
    with pytest.raises(NotAuthenticated) as refused:
        verify(request, {KEY_ID: KEY.public_key()}.get, now=NOW, signs_body=True)
    assert "from this server's clock (20" in told
    assert told == refused.value.message
    unsigned = ENVOY.headers_after(changed(SIGNED, authorization=None))
    assert unsigned[b"told"].decode() == signatures.UNSIGNED


def test_the_bounds_are_the_same() -> None:
    for name in ("LONGEST_AUTHORIZATION", "MAX_SIGNED_HEADERS", "LONGEST_DATE"):
        assert getattr(signatures, name) == getattr(signature, name)


def forms(run: str) -> list[Request]:
    """Where a stranger who knows a key's id may put a run."""
    parameters = f'version="1",keyId="{KEY_ID}",algorithm="rsa-sha256"'
    names = "(request-target) host date content-length content-type x-content-sha256"
    request = SIGNED
    return [
        changed(request, authorization=authorization)
        for authorization in (
            run,
            f"Signature {run}",
            f'Signature a="{run}',
            f'Signature {parameters},headers="{run}",signature="AA=="',
            f'Signature {parameters},headers="{names} {run}",signature="AA=="',
            f'Signature {parameters},headers="{names}",signature="{run}"',
            f'Signature {parameters},{run[:7000]},headers="{names}",signature="AA=="',
            f'Signature {parameters},headers="{names} {run[:7000]}",signature="AA=="',
            f'Signature {parameters},headers="{names}",signature="{run[:7000]}"',
        )
    ] + [
        changed(request, **{name: run})
        for name in ("date", "host", "content_type", "x_content_sha256", "content_length")
    ]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: repr(run[:12]))
def test_nothing_that_is_sent_costs_much(run: str) -> None:
    for request in forms(run):
        assert cost_s(lambda request=request: ENVOY.lets_in(request)) < LIMIT_S  # type: ignore[misc]
        assert cost_s(lambda request=request: the_api_lets_in(request)) < LIMIT_S  # type: ignore[misc]


def test_no_path_costs_much() -> None:
    paths = Envoy(LENIENT_PATHS)
    own = "/ocid1.datasciencemodeldeployment.oc1..a"
    for run in RUNS:
        for path in (
            f"/{run}",
            f"{own}{run}",
            f"{own}/{run}",
            f"{own}/{run}/predict",
            f"/{run}{own}",
        ):
            request = Request("POST", path, {})
            assert cost_s(lambda request=request: paths.headers_after(request)) < LIMIT_S  # type: ignore[misc]
