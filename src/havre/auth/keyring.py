"""The keys that may sign: looked up by key id, ``<tenancy>/<user>/<fingerprint>``."""

import base64
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from havre.auth import keys
from havre.auth.identity import OciIdentity
from havre.home import Home

_USER = re.compile(r"[A-Za-z0-9._-]+")


class Keyring:
    """The registered public keys of a home. A key that is added or removed counts at once."""

    def __init__(self, home: Home, identity: OciIdentity) -> None:
        self._folder = home.keys
        self._tenancy = identity.tenancy_ocid
        self._lock = threading.Lock()
        self._loaded_stamps: tuple[tuple[str, int], ...] = ()
        self._keys: Mapping[str, rsa.RSAPublicKey] = {}

    def find(self, key_id: str) -> rsa.RSAPublicKey | None:
        return self._current().get(key_id)

    def encoded(self) -> dict[str, str]:
        """Every key as base64 of its DER form, by key id."""
        return {key_id: encoded(key) for key_id, key in sorted(self._current().items())}

    def _current(self) -> Mapping[str, rsa.RSAPublicKey]:
        files = sorted(self._folder.glob("*/*.pem"))
        stamps = tuple((str(file), _modified(file)) for file in files)
        with self._lock:
            if stamps != self._loaded_stamps:
                self._keys = dict(row for file in files if (row := self._read(file)) is not None)
                self._loaded_stamps = stamps
            return self._keys

    def _read(self, file: Path) -> tuple[str, rsa.RSAPublicKey] | None:
        try:
            key = serialization.load_pem_public_key(file.read_bytes())
        except (OSError, ValueError):
            return None  # removed meanwhile, or no key: nobody can sign with it
        if not isinstance(key, rsa.RSAPublicKey) or not _USER.fullmatch(file.parent.name):
            return None
        return f"{self._tenancy}/{file.parent.name}/{keys.fingerprint(key)}", key


def encoded(key: rsa.RSAPublicKey) -> str:
    """Base64 of its DER form."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
