"""What tests without processes share."""

from tests.support.databases import nothing_is_synced  # noqa: F401
