"""What the suites over every implementation share."""

from tests.support.databases import nothing_is_synced  # noqa: F401
