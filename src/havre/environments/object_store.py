"""Where ``oci://bucket@namespace/object`` is looked up: a folder, or a service that speaks S3.

OCI Object Storage speaks S3 too, at an address that has the namespace in it:
``https://{namespace}.compat.objectstorage.REGION.oraclecloud.com``. Keys come from the variables
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; without them requests are unsigned.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from havre.domain.errors import EnvironmentFault
from havre.domain.packs import is_allowed

_ADDRESS = re.compile(r"oci://(?P<bucket>[^@/]+)@(?P<namespace>[^/]+)/(?P<name>.+)")
_PLAIN_NAME = re.compile(r"[\w.-]+")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
NAMESPACE = "{namespace}"
_READ_AHEAD = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there. ``identity`` changes when its content does; ``size`` is in bytes."""

    address: str
    identity: str
    size: int


class ObjectStore:
    """``where`` is a folder laid out as namespace/bucket/object, or an http(s) address.

    ``allowed`` are the patterns of the setting ``object_store_allowed``: a pack is code, and the
    artifact chooses its address.
    """

    def __init__(self, where: str, allowed: Sequence[str] = ()) -> None:
        self._where = where
        self._allowed = allowed
        self._is_remote = urlsplit(where).scheme in ("http", "https")

    def refused(self, address: str) -> str:
        """Why an artifact may not name a pack at this address; empty if it may."""
        parts = _parts(address)
        leads_to_anybodys = self._is_remote and NAMESPACE in self._where
        if parts is None or not (self._allowed or leads_to_anybodys):
            return ""
        namespace, bucket, _ = parts
        if is_allowed(self._allowed, namespace=namespace, bucket=bucket):
            return ""
        return (
            f"{address} may not be used: a pack is code, and the setting object_store_allowed "
            f"lists {', '.join(self._allowed) or 'no bucket'}. Who runs this server can add it, in "
            f'havre.toml: object_store_allowed = ["{namespace}/{bucket}"]'
        )

    def find(self, address: str) -> StoredObject | None:
        """The object at ``oci://bucket@namespace/name``; None if there is none, or no such address.

        Raises EnvironmentFault if it may not be named, or the store cannot be asked.
        """
        parts = _parts(address)
        if parts is None:
            return None
        self._check(address)
        if self._is_remote:
            return self._find_remote(address, *parts)
        path = self._path(*parts)
        if path is None or not path.is_file():
            return None
        status = path.stat()
        return StoredObject(
            address, f"{path}:{status.st_size}:{status.st_mtime_ns}", status.st_size
        )

    @contextmanager
    def open(self, address: str) -> Iterator[BinaryIO]:
        """Read the object from its start. Raises EnvironmentFault."""
        parts = _parts(address)
        self._check(address)
        path = None if parts is None or self._is_remote else self._path(*parts)
        try:
            if parts is not None and self._is_remote:
                with self._open_remote(*parts) as file:
                    yield cast("BinaryIO", file)
            elif path is not None:
                with path.open("rb") as file:
                    yield file
            else:
                raise FileNotFoundError(address)
        except _ABSENT as error:
            raise EnvironmentFault(f"{address} is no longer in {self._where}") from error

    def _check(self, address: str) -> None:
        if why := self.refused(address):
            raise EnvironmentFault(why)

    def _path(self, namespace: str, bucket: str, name: str) -> Path | None:
        root = Path(self._where, namespace, bucket)
        path = root.joinpath(*(part for part in name.split("/") if part))
        return path if path.resolve().is_relative_to(root.resolve()) else None

    def _find_remote(
        self, address: str, namespace: str, bucket: str, name: str
    ) -> StoredObject | None:
        try:
            metadata = self._bucket(namespace, bucket).head(name)
        except _ABSENT:
            return None
        except Exception as error:  # the library has a tree of its own, all the way from Exception
            raise self._unreachable(address, error) from error
        identity = metadata["e_tag"] or f"{metadata['size']}:{metadata['last_modified']}"
        return StoredObject(address, f"{self._where}:{address}:{identity}", int(metadata["size"]))

    @contextmanager
    def _open_remote(self, namespace: str, bucket: str, name: str) -> Iterator[IO[bytes]]:
        from obstore import open_reader

        try:
            reader = open_reader(self._bucket(namespace, bucket), name, buffer_size=_READ_AHEAD)
        except _ABSENT:
            raise
        except Exception as error:
            raise self._unreachable(f"oci://{bucket}@{namespace}/{name}", error) from error
        yield cast("IO[bytes]", _Reader(reader))

    def _bucket(self, namespace: str, bucket: str) -> Any:
        # Not at the top: half a second of every command otherwise, for what few homes use.
        from obstore.store import S3Store

        endpoint = self._where.replace(NAMESPACE, namespace).rstrip("/")
        signs = "AWS_ACCESS_KEY_ID" in os.environ
        return S3Store(
            bucket,
            endpoint=endpoint,
            region=os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or "us-east-1",
            virtual_hosted_style_request=False,
            skip_signature=not signs,
            client_options={"allow_http": True, "timeout": "30s", "connect_timeout": "5s"},
            retry_config={"max_retries": 2},
        )

    def _unreachable(self, address: str, error: Exception) -> EnvironmentFault:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        return EnvironmentFault(
            f"{address} cannot be looked up in the object store {self._where} (setting "
            f"object_store): {reason}"
        )


class _Reader:
    """obstore's reader hands out buffers of its own; decompressors want bytes."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        return bytes(self._reader.read(None if size < 0 else size))


def _parts(address: str) -> tuple[str, str, str] | None:
    """Namespace, bucket and name; None if it is not such an address."""
    match = _ADDRESS.fullmatch(unquote(address))
    if match is None:
        return None
    namespace, bucket, name = match["namespace"], match["bucket"], match["name"].rstrip("/")
    plain = all(_PLAIN_NAME.fullmatch(part) and part.strip(".") for part in (namespace, bucket))
    if not plain or not name or any(part in ("..", ".") for part in name.split("/")):
        return None
    return namespace, bucket, name
