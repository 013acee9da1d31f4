"""What a model's Java is told of its instance's folders."""

from pathlib import Path

from havre.engines.confinement import InstancePaths
from havre.engines.java import java_variables


def test_java_writes_where_the_instance_may() -> None:
    paths = InstancePaths(Path("/a home/instances/x"))
    told = java_variables(paths, {})["JAVA_TOOL_OPTIONS"]
    assert f'-Djava.io.tmpdir="{paths.temporary}"' in told
    assert f'-Duser.home="{paths.home}"' in told


def test_the_deployments_own_options_come_last_so_that_they_win() -> None:
    paths = InstancePaths(Path("/h/x"))
    told = java_variables(paths, {"JAVA_TOOL_OPTIONS": "-Xmx1g -Djava.io.tmpdir=/dev/shm"})
    assert told["JAVA_TOOL_OPTIONS"].endswith(" -Xmx1g -Djava.io.tmpdir=/dev/shm")
