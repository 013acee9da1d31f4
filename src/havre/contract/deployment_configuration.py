"""The polymorphic configuration of a deployment: read, checked, and given its defaults.

Flat JSON with a discriminator key beside the other fields. Kinds that this server does not have
are refused by name: a caller must never believe that a part of the request was obeyed.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from havre.contract.base import Id, RequestModel
from havre.domain.deployment import DEFAULT_BANDWIDTH_MBPS, NO_CAP_MBPS, DeploymentSpec
from havre.domain.errors import InvalidParameter
from havre.domain.shape import ShapeChoice, choose_shape

MAX_INSTANCES = 1000
NUMBERS = {
    "WEB_CONCURRENCY": (1, 1000),
    "MODEL_BATCH_SIZE": (1, 64),
    "MODEL_BATCH_DELAY_MS": (0, 1000),
    "MODEL_CHECK_INPUT": (0, 1),
}
"""Variables that the service reads, and what they may be."""
MAX_BANDWIDTH_MBPS = NO_CAP_MBPS  # multiples of 10 in the original; any whole number here
MAX_VARIABLES_BYTES = 2048

RESERVED_VARIABLES = frozenset(
    {
        "CONTAINER_CUSTOM_IMAGE",
        "MODEL_DEPLOYMENT_OCID",
        "MODEL_SERVING_PYTHON_VERSION",
        "TENANCY_OCID",
    }
)
RESERVED_PREFIXES = ("HAVRE_", "OCI_RESOURCE_PRINCIPAL_")

_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*[A-Za-z0-9]")


def _not_yet(what: str) -> PydanticCustomError:
    return PydanticCustomError(
        "not_yet", "{what} is not available on this server yet", {"what": what}
    )


def _of_kind(value: Any, key: str, here: str) -> Any:
    """Refuse another kind once and by name, before its fields are checked."""
    if not isinstance(value, Mapping):
        return value
    kind = value.get(key)
    if kind is None:
        raise PydanticCustomError(
            "kind_missing", "needs {key}; this server knows {here}", {"key": key, "here": here}
        )
    if kind != here:
        raise _not_yet(f"{key} {kind!r}")
    return value


def _number(value: Any) -> Any:
    """JSON's true is no number, though Python thinks so."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Figure = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class ShapeDetails(RequestModel):
    ocpus: Figure | None = None
    memory_in_gbs: Annotated[Figure | None, Field(alias="memoryInGBs")] = None
    cpu_baseline: str | None = None


class InstanceConfiguration(RequestModel):
    instance_shape_name: str
    model_deployment_instance_shape_config_details: ShapeDetails | None = None
    network_access_type: str | None = None
    subnet_id: Any = None
    private_endpoint_id: Any = None
    capacity_reservation_ids: Any = None

    @model_validator(mode="after")
    def _settle(self) -> Self:
        """The echo shows what is in force: no figures for a shape whose size is fixed."""
        problems = [
            f"{name} is not available on this server yet"
            for name, value in (
                ("subnetId", self.subnet_id),
                ("privateEndpointId", self.private_endpoint_id),
                ("capacityReservationIds", self.capacity_reservation_ids),
            )
            if value
        ]
        access = self.network_access_type
        if access not in (None, "MANAGED_NETWORKING_INTERNET_ACCESS"):
            problems.append(f"networkAccessType {access!r} is not available on this server yet")
        try:
            choice = self.shape
        except InvalidParameter as error:
            problems.extend(error.problems)
        if problems:
            raise PydanticCustomError("instance", "{text}", {"text": "; ".join(problems)})
        self.subnet_id = self.private_endpoint_id = self.capacity_reservation_ids = None
        details = self.model_deployment_instance_shape_config_details
        if details is None:
            return self
        if choice.name.endswith(".Flex"):
            details.cpu_baseline = choice.baseline
        else:
            self.model_deployment_instance_shape_config_details = None
        return self

    @property
    def shape(self) -> ShapeChoice:
        details = self.model_deployment_instance_shape_config_details or ShapeDetails()
        return choose_shape(
            self.instance_shape_name,
            ocpus=details.ocpus,
            memory_gb=details.memory_in_gbs,
            baseline=details.cpu_baseline,
        )


class ScalingPolicy(RequestModel):
    policy_type: Literal["FIXED_SIZE"] = "FIXED_SIZE"
    instance_count: Annotated[Whole, Field(ge=1, le=MAX_INSTANCES)] = 1

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        return _of_kind(value, "policyType", "FIXED_SIZE")


class ModelConfiguration(RequestModel):
    model_id: Id
    model_artifact_signature_id: None = None
    instance_configuration: InstanceConfiguration
    scaling_policy: ScalingPolicy = Field(default_factory=ScalingPolicy.model_construct)
    bandwidth_mbps: Annotated[Whole, Field(ge=10, le=MAX_BANDWIDTH_MBPS)] = DEFAULT_BANDWIDTH_MBPS
    maximum_bandwidth_mbps: Annotated[Whole, Field(ge=10, le=MAX_BANDWIDTH_MBPS)] | None = None

    @field_validator("model_artifact_signature_id", mode="before")
    @classmethod
    def _refuse_signature(cls, value: Any) -> None:
        if value not in (None, ""):
            raise _not_yet("verifying an artifact's signature")

    @model_validator(mode="after")
    def _check_bandwidths(self) -> Self:
        bandwidth, maximum = self.bandwidth_mbps, self.maximum_bandwidth_mbps
        if maximum is not None and not bandwidth < maximum <= 2 * bandwidth:
            raise PydanticCustomError(
                "bandwidth",
                "maximumBandwidthMbps must be over bandwidthMbps ({bandwidth}) and at most twice "
                "as much, not {maximum}",
                {"bandwidth": bandwidth, "maximum": maximum},
            )
        return self


def _read_variables(variables: Any) -> Any:
    if not isinstance(variables, Mapping):
        return variables
    # Clients send WEB_CONCURRENCY and the like as numbers.
    read = {name: str(value) if _is_number(value) else value for name, value in variables.items()}
    problems = [problem for name, value in read.items() for problem in _problems_of(name, value)]
    texts = [text for pair in read.items() for text in pair if isinstance(text, str)]
    size = sum(len(text.encode(errors="replace")) for text in texts)
    if size > MAX_VARIABLES_BYTES:
        problems.append(
            f"names and values together must not exceed {MAX_VARIABLES_BYTES} bytes, not {size}"
        )
    if problems:
        raise PydanticCustomError("variables", "{text}", {"text": "; ".join(problems)})
    return read


def _problems_of(name: str, value: Any) -> list[str]:
    problems = []
    if not (2 <= len(name) < 32 and _VARIABLE.fullmatch(name)):
        problems.append(
            f"{name[:40]!r} must be 2 to 31 letters, digits or underscores, "
            "start with a letter and not end with an underscore"
        )
    if name in RESERVED_VARIABLES or name.startswith(RESERVED_PREFIXES):
        problems.append(f"{name[:40]} is set by the server")
    if not isinstance(value, str):
        problems.append(f"the value of {name[:40]} must be text")
    elif name in NUMBERS and value and not _is_within(value, *NUMBERS[name]):
        minimum, maximum = NUMBERS[name]
        problems.append(f"{name} must be a whole number from {minimum} to {maximum}")
    return problems


def _is_within(value: str, minimum: int, maximum: int) -> bool:
    return re.fullmatch(r"[0-9]{1,4}", value) is not None and minimum <= int(value) <= maximum


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


Variables = Annotated[dict[str, str], BeforeValidator(_read_variables)]


class EnvironmentConfiguration(RequestModel):
    environment_configuration_type: Literal["DEFAULT"] = "DEFAULT"
    environment_variables: Variables = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        return _of_kind(value, "environmentConfigurationType", "DEFAULT")


class DeploymentConfiguration(RequestModel):
    """SINGLE_MODEL. Oracle's REST sample puts the instances beside the model: both are read."""

    deployment_type: Literal["SINGLE_MODEL"] = "SINGLE_MODEL"
    model_configuration_details: ModelConfiguration
    environment_configuration_details: EnvironmentConfiguration = Field(
        default_factory=EnvironmentConfiguration.model_construct
    )

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, value: Any) -> Any:
        return gather_instances(_of_kind(without_nulls(value), "deploymentType", "SINGLE_MODEL"))

    def to_spec(self, *, artifact_digest: str) -> DeploymentSpec:
        model = self.model_configuration_details
        return DeploymentSpec(
            model_id=model.model_id,
            artifact_digest=artifact_digest,
            shape=model.instance_configuration.shape,
            instance_count=model.scaling_policy.instance_count,
            bandwidth_mbps=model.bandwidth_mbps,
            maximum_bandwidth_mbps=model.maximum_bandwidth_mbps,
            environment_variables=self.environment_configuration_details.environment_variables,
        )


def gather_instances(configuration: Any) -> Any:
    """``infrastructureConfigurationDetails`` folded into ``modelConfigurationDetails``.

    The model's own details take precedence.
    """
    if not isinstance(configuration, Mapping):
        return configuration
    infrastructure = configuration.get("infrastructureConfigurationDetails")
    model = configuration.get("modelConfigurationDetails", {})
    if not isinstance(infrastructure, Mapping) or not isinstance(model, Mapping):
        return configuration
    _of_kind(infrastructure, "infrastructureType", "INSTANCE_POOL")
    moved = {key: value for key, value in infrastructure.items() if key != "infrastructureType"}
    rest = {
        key: value
        for key, value in configuration.items()
        if key != "infrastructureConfigurationDetails"
    }
    return {**rest, "modelConfigurationDetails": {**moved, **model}}


def without_nulls(value: Any) -> Any:
    """A null is an absent key, except as the value of an environment variable."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: item if key == "environmentVariables" else without_nulls(item)
        for key, item in value.items()
        if item is not None
    }
