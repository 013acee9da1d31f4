"""Keys of ``runtime.yaml`` that would be ignored as they stand: misplaced, misspelled, twice.

Whether one is an error depends on what it costs. It is an error if, read as it was meant, it would
give the model another environment; a warning if it repeats what is at the right place, or is empty.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import yaml

ENVIRONMENT = ("MODEL_DEPLOYMENT", "INFERENCE_CONDA_ENV")
"""The keys that lead to the part that names the environment."""
_OF_ENVIRONMENT = (
    "INFERENCE_ENV_SLUG",
    "INFERENCE_ENV_TYPE",
    "INFERENCE_ENV_PATH",
    "INFERENCE_PYTHON_VERSION",
)
_PARENT_PATHS: dict[str, tuple[str, ...]] = {
    "MODEL_ARTIFACT_VERSION": (),
    "MODEL_DEPLOYMENT": (),
    "INFERENCE_CONDA_ENV": ("MODEL_DEPLOYMENT",),
    **dict.fromkeys(_OF_ENVIRONMENT, ENVIRONMENT),
}
# oracle-ads writes these, and nothing here reads them. They look like those above.
_OF_TRAINING = (
    "MODEL_PROVENANCE",
    "TRAINING_CODE",
    "TRAINING_CONDA_ENV",
    "TRAINING_ENV_PATH",
    "TRAINING_ENV_SLUG",
    "TRAINING_ENV_TYPE",
    "TRAINING_PYTHON_VERSION",
)
_ALIKE = 0.85
_ALIKE_AMONG_FOUR = 0.64
_PREFIX = "INFERENCE_"
_MERGE = "<<"
_PLAIN = re.compile(r"\w{1,60}")
_NOTHING = frozenset({"", "~", "null", "none"})


@dataclass(frozen=True, slots=True)
class Fault:
    """``text`` is half a sentence that begins with the line; ``is_error`` as above."""

    text: str
    is_error: bool


def is_nothing(text: str) -> bool:
    """Whether a value as written means nothing."""
    return text.strip().lower() in _NOTHING


def find_faults(root: yaml.Node) -> list[Fault]:
    """All that is wrong with the keys of a composed document, from its top down."""
    return list(_Search(root).below(root, ()))


class _Search:
    """Looks at every value once, however many aliases lead to it."""

    def __init__(self, root: yaml.Node) -> None:
        deployment = dict(_pairs(root)).get(ENVIRONMENT[0])
        environment = dict(_pairs(deployment)).get(ENVIRONMENT[1])
        self._expected_paths = {id(deployment): ENVIRONMENT[:1], id(environment): ENVIRONMENT}
        self._stated = {
            key: value.value.strip()
            for key, value in _pairs(environment)
            if isinstance(value, yaml.ScalarNode)
        }
        self._visited: set[int] = set()

    def below(self, node: yaml.Node, path: tuple[str, ...]) -> Iterator[Fault]:
        """What is wrong below a value that ``path`` leads to."""
        if id(node) in self._visited or self._expected_paths.get(id(node), path) != path:
            return
        self._visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from self.below(item, (*path, ""))
        if not isinstance(node, yaml.MappingNode):
            return
        lines: dict[str, int] = {}
        for key_node, value in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in lines:
                message = (
                    f"line {line}: {_shown(key)} is there already (line {lines[key]}): keep one"
                )
                yield Fault(message, _PARENT_PATHS.get(key) == path)
            lines.setdefault(key, line)
            yield from self._of(key, line, value, path)

    def _of(self, key: str, line: int, value: yaml.Node, path: tuple[str, ...]) -> Iterator[Fault]:
        if key == _MERGE and path == ENVIRONMENT[: len(path)]:
            message = f"line {line}: merge keys ({_MERGE}) are not read: write the keys themselves"
            yield Fault(message, True)
            return
        meant = _meant(key, path)
        inner = list(self.below(value, (*path, key)))
        if meant == key and _PARENT_PATHS[key] == path:
            yield from inner
        elif meant:
            message = f"line {line}: {_shown(key)} {_should(key, meant)}"
            yield Fault(
                message, self._matters(meant, value) or any(fault.is_error for fault in inner)
            )
        else:
            if path == ENVIRONMENT:
                message = (
                    f"line {line}: {_shown(key)} is not read; {', '.join(_OF_ENVIRONMENT)} are"
                )
                yield Fault(message, False)
            yield from inner

    def _matters(self, meant: str, value: yaml.Node) -> bool:
        if meant not in _OF_ENVIRONMENT or not isinstance(value, yaml.ScalarNode):
            return False
        return not is_nothing(value.value) and value.value.strip() != self._stated.get(meant)


def _meant(key: str, path: tuple[str, ...]) -> str:
    """The key that was meant; empty if it is none of ours."""
    written = key.strip().upper().replace("-", "_").replace(" ", "_")
    if written in _PARENT_PATHS:
        return written
    if path == ENVIRONMENT:
        endings = [key.removeprefix(_PREFIX) for key in _OF_ENVIRONMENT]
        alike = get_close_matches(written.removeprefix(_PREFIX), endings, 1, _ALIKE_AMONG_FOUR)
        return f"{_PREFIX}{alike[0]}" if alike else ""
    alike = get_close_matches(written, (*_PARENT_PATHS, *_OF_TRAINING), 1, _ALIKE)
    return alike[0] if alike and alike[0] in _PARENT_PATHS else ""


def _shown(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else repr(key[:60])


def _should(key: str, meant: str) -> str:
    where = f"below {' and '.join(_PARENT_PATHS[meant])}" if _PARENT_PATHS[meant] else "at the top"
    return f"belongs {where}" if key == meant else f"should be {meant}, {where}"


def _pairs(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value
