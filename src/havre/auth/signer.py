"""Signs what the commands of a home send, as OCI's own tools do.

Bodies are signed by their hash. Of a body that is streamed, an artifact's, the sender states the
hash (`file_digest`) in ``x-content-sha256``; without, OCI's tools and we do not sign it.
"""

import base64
import hashlib
from collections.abc import Generator
from email.utils import formatdate
from io import BufferedReader
from pathlib import Path

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from havre import durable
from havre.auth import keys
from havre.auth.identity import OciIdentity
from havre.auth.signature import TARGET
from havre.domain.errors import SystemFault
from havre.home import Home

PLAIN = ("date", TARGET, "host")
DIGEST = "x-content-sha256"
WITH_BODY = (*PLAIN, "content-length", "content-type", DIGEST)


def file_digest(file: BufferedReader) -> str:
    """The ``x-content-sha256`` of a file's bytes. Reads it from its position to its end."""
    return base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()


class Signer(httpx.Auth):
    """Reads no body that is streamed. Without ``key`` it signs with that of the home's commands."""

    def __init__(
        self, home: Home, identity: OciIdentity, key: rsa.RSAPrivateKey | None = None
    ) -> None:
        self._key = key or _own_key(home, identity)
        fingerprint = keys.fingerprint(self._key.public_key())
        self._key_id = f"{identity.tenancy_ocid}/{identity.user_ocid}/{fingerprint}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = request.headers
        headers["date"] = formatdate(usegmt=True)
        signed: tuple[str, ...] = PLAIN
        is_upload = request.url.path.endswith("/artifact")
        if is_upload and DIGEST in headers:
            signed = WITH_BODY
        elif request.method in {"POST", "PUT", "PATCH"} and not is_upload:
            signed = WITH_BODY
            headers.setdefault("content-type", "application/json")
            headers.setdefault("content-length", str(len(request.content)))
            digest = hashlib.sha256(request.content).digest()
            headers[DIGEST] = base64.b64encode(digest).decode()
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


def _own_key(home: Home, identity: OciIdentity) -> rsa.RSAPrivateKey:
    """The key of this home's own commands; made and registered when it is first needed.

    Raises SystemFault for a file that is damaged.
    """
    path = home.keys / "commands.pem"
    with durable.file_lock(home.keys / "commands.lock"):
        if not path.exists():
            key = keys.new_key()
            keys.register(home, identity.user_ocid, key.public_key())
            durable.write_file(path, keys.private_pem(key))
            return key
        try:
            loaded = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, TypeError, UnsupportedAlgorithm, ValueError) as error:
            raise _damaged(path, str(error)) from error
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise _damaged(path, "it is no RSA key")
    return loaded


def _damaged(path: Path, why: str) -> SystemFault:
    return SystemFault(
        f"{path} is damaged ({why}): restore it from a backup, or remove it, and another key is "
        "made and registered"
    )
