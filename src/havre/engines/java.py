"""The settings of a Java that a model starts: it asks neither TMPDIR nor HOME by itself."""

from collections.abc import Mapping

from havre.engines.confinement import InstancePaths

OPTIONS = "JAVA_TOOL_OPTIONS"


def java_variables(paths: InstancePaths, stated: Mapping[str, str]) -> dict[str, str]:
    """The instance's own folders, as options; the deployment's own options come after them."""
    folders = f'-Djava.io.tmpdir="{paths.temporary}" -Duser.home="{paths.home}"'
    return {OPTIONS: f"{folders} {stated.get(OPTIONS, '')}".rstrip()}
