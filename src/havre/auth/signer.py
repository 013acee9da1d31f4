"""Signs what the commands of a home send, as OCI's own tools do."""

import base64
import hashlib
from collections.abc import Generator
from email.utils import formatdate

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from havre import durable
from havre.auth import keys
from havre.auth.identity import Identity
from havre.auth.signature import TARGET
from havre.home import Home

PLAIN = ("date", TARGET, "host")
WITH_BODY = (*PLAIN, "content-length", "content-type", "x-content-sha256")


class Signer(httpx.Auth):
    """Bodies are signed, but for artifacts, which are streamed."""

    def __init__(self, home: Home, identity: Identity) -> None:
        self._key = _own_key(home, identity)
        fingerprint = keys.fingerprint(self._key.public_key())
        self._key_id = f"{identity.tenancy_ocid}/{identity.user_ocid}/{fingerprint}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = request.headers
        headers["date"] = formatdate(usegmt=True)
        signed: tuple[str, ...] = PLAIN
        is_upload = request.url.path.endswith("/artifact")
        if request.method in {"POST", "PUT", "PATCH"} and not is_upload:
            signed = WITH_BODY
            headers.setdefault("content-type", "application/json")
            headers.setdefault("content-length", str(len(request.content)))
            digest = hashlib.sha256(request.content).digest()
            headers["x-content-sha256"] = base64.b64encode(digest).decode()
        target = f"{request.method.lower()} {request.url.raw_path.decode()}"
        text = "\n".join(
            f"{name}: {target if name == TARGET else headers[name]}" for name in signed
        )
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        headers["authorization"] = (
            f'Signature version="1",keyId="{self._key_id}",algorithm="rsa-sha256",'
            f'headers="{" ".join(signed)}",signature="{base64.b64encode(signature).decode()}"'
        )
        yield request


def _own_key(home: Home, identity: Identity) -> rsa.RSAPrivateKey:
    """The key of this home's own commands; made and registered when it is first needed."""
    path = home.keys / "commands.pem"
    with durable.file_lock(home.keys / "commands.lock"):
        if not path.exists():
            key = keys.new_key()
            keys.register(home, identity.user_ocid, key.public_key())
            durable.write_file(path, keys.private_pem(key))
            return key
        key_bytes = path.read_bytes()
    loaded = load_pem_private_key(key_bytes, password=None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    return loaded
