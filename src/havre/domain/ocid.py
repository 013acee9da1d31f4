"""OCIDs: ``ocid1.<type>.oc1.<region key>.<unique>``."""

import base64
import hashlib
import re
import secrets
from enum import StrEnum
from functools import lru_cache

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
UNIQUE_LENGTH = 60
SHORT_LENGTH = 12
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
    LOG_GROUP = "loggroup"
    LOG = "log"
    LOG_WORK_REQUEST = "logworkrequest"


DEPLOYMENT_OCID_PREFIX = f"ocid1.{Kind.DEPLOYMENT}."
DEPLOYMENT_OCID_PATTERN = re.escape(DEPLOYMENT_OCID_PREFIX) + "[a-z0-9._-]+"
"""As Python, RE2 and DuckDB read it."""

_GLOBAL = frozenset({Kind.TENANCY, Kind.USER})


def new_ocid(kind: Kind) -> str:
    """A fresh OCID. Tenancies and users are global: their region key is empty."""
    region = "" if kind in _GLOBAL else REGION_KEY
    return f"ocid1.{kind}.{REALM}.{region}.{_random(UNIQUE_LENGTH)}"


@lru_cache(maxsize=64)  # those of the home are in every response about a deployment
def derived_ocid(kind: Kind, seed: str) -> str:
    """The same OCID for the same seed, and for no other."""
    digest = hashlib.blake2b(seed.encode(), digest_size=40, person=kind.encode()[:16]).digest()
    unique = base64.b32encode(digest).decode().lower()[:UNIQUE_LENGTH]
    return f"ocid1.{kind}.{REALM}.{REGION_KEY}.{unique}"


def is_ocid(text: str, kind: Kind | None = None) -> bool:
    """Whether the text has an OCID's form (and kind, if one is given)."""
    match = _PATTERN.fullmatch(text)
    return match is not None and (kind is None or match[1] == kind)


def new_short_id() -> str:
    """A name short enough for a Unix socket's path (107 bytes): 12 characters, 60 random bits."""
    return _random(SHORT_LENGTH)


def is_short_id(text: str) -> bool:
    return len(text) == SHORT_LENGTH and set(text) <= set(ALPHABET)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
