"""Our environments in place of the original service's: the same family, Python and device.

An environment may be made for hardware that this machine does not have, a GPU or an Arm processor.
Then the equivalent for this machine is chosen, with a sentence on what the machine lacks. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from havre.environments.definition import (
    DEFAULT_PYTHON,
    GENERAL,
    EnvironmentDefinition,
    ServiceSlug,
    parse_service_slug,
    python_order,
)
from havre.environments.oracle_slugs import like_families, stem

ARM = "aarch64"


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine's hardware that environments depend on; ``processor`` as uname prints it."""

    gpus: int = 0
    processor: str = "x86_64"


@dataclass(frozen=True, slots=True)
class StandIn:
    """``lacking`` is why it is not the requested one: half a sentence, or empty."""

    definition: EnvironmentDefinition
    lacking: str = ""


def lacks(slug: str, hardware: Hardware) -> str:
    """What an environment is made for and the machine has not (``a GPU``), or empty."""
    parsed = parse_service_slug(slug)
    return "" if parsed is None else _lacks(parsed, hardware)


def stand_in(
    requested: ServiceSlug, builtin: Mapping[str, EnvironmentDefinition], hardware: Hardware
) -> StandIn | None:
    """Ours for the same family and Python: service slugs differ in their last parts.

    What is for the device comes first, then what is for CPUs.
    """
    ours = list(_running_here(builtin, hardware))
    families = _families(requested.family, ours)
    for device in dict.fromkeys((requested.device, "cpu")):
        for family in families:
            for parsed, definition in ours:
                if (parsed.family, parsed.python, parsed.device) == (
                    family,
                    requested.python,
                    device,
                ):
                    if missing := _lacks(requested, hardware):
                        return StandIn(definition, f"this machine lacks {missing}")
                    if device != requested.device:
                        return StandIn(definition, "havre has none of that kind for GPUs")
                    return StandIn(definition)
    return None


def nearest(
    requested: ServiceSlug, builtin: Mapping[str, EnvironmentDefinition], hardware: Hardware
) -> EnvironmentDefinition | None:
    """What comes closest: the same family on the nearest Python, else the general one."""
    ours = list(_running_here(builtin, hardware))
    minor = python_order(requested.python or DEFAULT_PYTHON)[1]
    for family in (*_families(requested.family, ours), GENERAL):
        same = [
            (abs(python_order(parsed.python)[1] - minor), definition.slug)
            for parsed, definition in ours
            if parsed.family == family
        ]
        if same:
            return builtin[min(same)[1]]
    return None


def _lacks(slug: ServiceSlug, hardware: Hardware) -> str:
    if slug.device == "gpu" and not hardware.gpus:
        return "a GPU"
    if slug.processor == ARM and hardware.processor != ARM:
        return "an Arm processor"
    return ""


def _running_here(
    builtin: Mapping[str, EnvironmentDefinition], hardware: Hardware
) -> Iterator[tuple[ServiceSlug, EnvironmentDefinition]]:
    for definition in builtin.values():
        parsed = parse_service_slug(definition.slug)
        if parsed is not None and not _lacks(parsed, hardware):
            yield parsed, definition


def _families(
    family: str, ours: Sequence[tuple[ServiceSlug, EnvironmentDefinition]]
) -> tuple[str, ...]:
    """Those that can stand in, best first; last the same library's other versions."""
    first = like_families(family)
    others = sorted(
        {parsed.family for parsed, _ in ours if stem(parsed.family) == stem(family)}, reverse=True
    )
    return tuple(dict.fromkeys((*first, *others)))
