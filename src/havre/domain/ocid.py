"""OCIDs: ``ocid1.<type>.oc1.<region key>.<unique>``."""

import re
import secrets
from enum import StrEnum

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
UNIQUE_LENGTH = 60
REALM = "oc1"
REGION_KEY = "iad"

_PATTERN = re.compile(r"ocid1\.([a-z0-9_-]+)\.([a-z0-9]+)\.([a-z0-9-]*)\.([a-z0-9.]+)")


class Kind(StrEnum):
    """The type part of an OCID."""

    TENANCY = "tenancy"
    USER = "user"
    PROJECT = "datascienceproject"
    MODEL = "datasciencemodel"
    VERSION_SET = "datasciencemodelversionset"
    DEPLOYMENT = "datasciencemodeldeployment"
    WORK_REQUEST = "datascienceworkrequest"


_GLOBAL = frozenset({Kind.TENANCY, Kind.USER})


def new_ocid(kind: Kind) -> str:
    """A fresh OCID. Tenancies and users are global: their region key is empty."""
    region = "" if kind in _GLOBAL else REGION_KEY
    return f"ocid1.{kind}.{REALM}.{region}.{_random(UNIQUE_LENGTH)}"


def is_ocid(text: str, kind: Kind | None = None) -> bool:
    """Whether the text has an OCID's form (and kind, if one is given)."""
    match = _PATTERN.fullmatch(text)
    return match is not None and (kind is None or match[1] == kind)


def new_short_id() -> str:
    """A name short enough for a Unix socket's path (107 bytes): 12 characters, 60 random bits."""
    return _random(12)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
