"""What tests with real processes share."""

from tests.supervisor_bench import bench  # noqa: F401
