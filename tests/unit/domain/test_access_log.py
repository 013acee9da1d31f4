"""The line that the load balancer writes is the line that telemetry reads."""

from havre.balancer.envoy.access_log import FORMATS
from havre.domain.access_log import FIELDS
from havre.telemetry.files.schema import ACCESS_TYPES


def test_writer_and_reader_have_the_same_fields() -> None:
    assert len(set(FIELDS)) == len(FIELDS)
    assert FORMATS.keys() == set(FIELDS)
    assert ACCESS_TYPES.keys() == set(FIELDS)
