"""What tests with real processes share."""

from tests.copy_instance import launch  # noqa: F401
from tests.supervisor_bench import bench  # noqa: F401
