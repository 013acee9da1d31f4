"""The desired configuration of a deployment, from the options given and its present one. Pure.

Configurations are in the form of the API.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from havre.domain.deployment import NO_CAP_MBPS
from havre.domain.errors import InvalidParameter

STANDARD_SHAPE = "VM.Standard.E4.Flex"
STANDARD_OCPUS, STANDARD_MEMORY_GB = 1.0, 16.0

STANDARD_BASELINE = "BASELINE_1_1"
_DETAILS = "modelDeploymentInstanceShapeConfigDetails"

Json = dict[str, Any]
Pairs = Mapping[str, str | None]
"""None: to be removed."""


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """The options given for a deployment; None: not given, so that it stays as it is.

    ``resets``: what is not given gets the value that it has in a new deployment.
    """

    shape: str | None = None
    ocpus: float | None = None
    memory_gb: float | None = None
    instances: int | None = None
    bandwidth_mbps: int | None = None
    variables: Pairs = field(default_factory=dict)
    tags: Pairs = field(default_factory=dict)
    resets: bool = False


def configuration_of(options: DeployOptions, model_id: str, present: Json | None = None) -> Json:
    """The whole configuration; ``present`` is that of an existing deployment."""
    before = {} if present is None or options.resets else deepcopy(present)
    model = dict(before.get("modelConfigurationDetails", {}))
    environment = dict(before.get("environmentConfigurationDetails", {}))
    if options.bandwidth_mbps is not None or present is None or options.resets:
        model["bandwidthMbps"] = _first(options.bandwidth_mbps, NO_CAP_MBPS)
        model["maximumBandwidthMbps"] = None  # it is a figure beside the one that is gone
    scaling = model.get("scalingPolicy", {"policyType": "FIXED_SIZE", "instanceCount": 1})
    if options.instances is not None:
        scaling = {**scaling, "instanceCount": options.instances}
    return {
        **before,
        "deploymentType": "SINGLE_MODEL",
        "modelConfigurationDetails": {
            **model,
            "modelId": model_id,
            "instanceConfiguration": _instance(options, model.get("instanceConfiguration", {})),
            "scalingPolicy": scaling,
        },
        "environmentConfigurationDetails": {
            **environment,
            "environmentConfigurationType": "DEFAULT",
            "environmentVariables": merged(
                environment.get("environmentVariables", {}), options.variables
            ),
        },
    }


def tags_of(options: DeployOptions, present: Mapping[str, str] | None = None) -> dict[str, str]:
    return merged({} if present is None or options.resets else present, options.tags)


def merged(present: Mapping[str, str], changes: Pairs) -> dict[str, str]:
    both = {**present, **changes}
    return {name: value for name, value in both.items() if value is not None}


def differences(before: Json, after: Json) -> list[str]:
    """What a change of the configuration changes, except the model, a line for each.

    Values of variables are not shown: there are passwords among them, and terminals are recorded.
    """
    lines = []
    for name, form, read in _FIGURES:
        old, new = read(before), read(after)
        if old != new and not (name in _OF_FLEXIBLE and None in (old, new)):
            lines.append(f"{name} {_shown(old, form)} → {_shown(new, form)}")
    old_variables, new_variables = _variables(before), _variables(after)
    lines += [
        f"variable {name} is {_change_of(old_variables.get(name), new_variables.get(name))}"
        for name in sorted({*old_variables, *new_variables})
        if old_variables.get(name) != new_variables.get(name)
    ]
    return lines


def differing_tags(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [
        f"tag {name} {_shown(before.get(name), '{}')} → {_shown(after.get(name), '{}')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def read_pairs(texts: list[str], option: str) -> dict[str, str | None]:
    """``NAME=VALUE``, or ``NAME-`` for what is to be removed. Raises InvalidParameter."""
    pairs: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name:
            pairs[name] = value
        elif text.endswith("-") and len(text) > 1 and not equals:
            pairs[text[:-1]] = None
        else:
            raise InvalidParameter(f"{option} {text!r} must be NAME=VALUE, or NAME- to remove it")
    return pairs


def _instance(options: DeployOptions, present: Json) -> Json:
    """A flexible shape needs figures: those given, else those it has, else the standard ones.

    Raises InvalidParameter if there are figures for a shape whose size is fixed.
    """
    shape = options.shape or present.get("instanceShapeName", STANDARD_SHAPE)
    if shape.endswith(".Flex"):
        has = present.get(_DETAILS) or {}
        details = {
            "cpuBaseline": STANDARD_BASELINE,
            **has,
            "ocpus": _first(options.ocpus, has.get("ocpus"), STANDARD_OCPUS),
            "memoryInGBs": _first(options.memory_gb, has.get("memoryInGBs"), STANDARD_MEMORY_GB),
        }
        return {**present, "instanceShapeName": shape, _DETAILS: details}
    if options.ocpus is not None or options.memory_gb is not None:
        raise InvalidParameter(
            f"the size of {shape} is fixed: leave out --ocpus and --memory, or choose a shape "
            "that ends in .Flex"
        )
    kept = {key: value for key, value in present.items() if key != _DETAILS}
    return {**kept, "instanceShapeName": shape}


def _first(*values: float | None) -> float | None:
    """The first that is not None."""
    return next((value for value in values if value is not None), None)


def _model(configuration: Json) -> Json:
    model: Json = configuration["modelConfigurationDetails"]
    return model


def _details(configuration: Json) -> Json:
    instance = _model(configuration)["instanceConfiguration"]
    return instance.get(_DETAILS) or {}


def _variables(configuration: Json) -> Mapping[str, str]:
    environment = configuration.get("environmentConfigurationDetails") or {}
    return environment.get("environmentVariables") or {}


_FIGURES: tuple[tuple[str, str, Callable[[Json], Any]], ...] = (
    ("shape", "{}", lambda of: _model(of)["instanceConfiguration"]["instanceShapeName"]),
    ("OCPUs", "{:g}", lambda of: _details(of).get("ocpus")),
    ("memory", "{:g} GB", lambda of: _details(of).get("memoryInGBs")),
    ("CPU baseline", "{}", lambda of: _details(of).get("cpuBaseline")),
    ("instances", "{}", lambda of: (_model(of).get("scalingPolicy") or {}).get("instanceCount")),
    ("bandwidth", "{}", lambda of: _in_words(_model(of).get("bandwidthMbps"))),
    ("maximum bandwidth", "{} Mbps", lambda of: _model(of).get("maximumBandwidthMbps")),
)
_OF_FLEXIBLE = frozenset({"OCPUs", "memory", "CPU baseline"})


def _in_words(mbps: int | None) -> str | None:
    return "no cap" if mbps == NO_CAP_MBPS else f"{mbps} Mbps" if mbps else None


def _shown(value: Any, form: str) -> str:
    return "none" if value is None else form.format(value)


def _change_of(old: str | None, new: str | None) -> str:
    if old is None:
        return "new"
    return "removed" if new is None else "changed"
