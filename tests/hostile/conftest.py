"""What tests with real processes share."""

from tests.support.supervisor_harness import harness  # noqa: F401
