"""Which packs in an object store an artifact may name: patterns of a namespace and a bucket."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from havre.domain.errors import InvalidParameter

_PATTERN = re.compile(r"[\w.*-]+/[\w.*-]+")


def check_buckets(patterns: Sequence[str]) -> None:
    """Whether each is ``namespace/bucket``. Raises InvalidParameter."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise InvalidParameter(
                f"{pattern!r} must name a namespace and a bucket, such as mytenancy/packs or "
                "mytenancy/*"
            )


def is_allowed(patterns: Sequence[str], *, namespace: str, bucket: str) -> bool:
    """Whether one of the patterns fits; ``*`` fits any part of one name."""
    return any(
        fnmatchcase(namespace, names) and fnmatchcase(bucket, buckets)
        for names, _, buckets in (pattern.partition("/") for pattern in patterns)
    )
