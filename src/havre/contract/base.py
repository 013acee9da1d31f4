"""What every request and response has in common: names in camelCase, moments, tags, safe text."""

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel

T = TypeVar("T")

MAX_DEPTH = 32
MAX_TAG_KEY = 100
MAX_TAG_VALUE = 256
MAX_TAGS_BYTES = 10 * 1024


class ResponseModel(BaseModel):
    """Made from a row or by hand, written in camelCase; unknown keys are ignored when read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        from_attributes=True,
        extra="ignore",
        protected_namespaces=(),
    )


class RequestModel(ResponseModel):
    """A body a client sent: nothing in it that a database or a JSON response could not carry."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unstorable(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_unstorable(value)
        return value

    def given(self) -> dict[str, Any]:
        """The fields the client named, by our names: an absent key means "leave it as it is"."""
        return self.model_dump(exclude_unset=True)

    def digest_text(self) -> str:
        """The same text for the same request: what a retry token is compared by."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True), sort_keys=True)


def refuse_unstorable(value: Any, path: str = "", depth: int = 0) -> None:
    """Raises ValueError for NUL characters, halves of surrogate pairs, numbers that are not finite
    and nesting deeper than MAX_DEPTH: JSON can carry them, PostgreSQL or the response cannot.
    """
    where = path or "the body"
    if depth > MAX_DEPTH:
        raise ValueError(f"{where[:100]} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError(f"{where} contains a NUL character")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{where} contains half of a surrogate pair")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is not a finite number")
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_unstorable(key, f"a key of {where}")
            refuse_unstorable(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            refuse_unstorable(item, f"{path}[{index}]", depth + 1)


def format_moment(moment: datetime) -> str:
    """``2026-11-22T07:00:00.000Z``: the form that clients try first."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _check_freeform_tags(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        _check_tag(key, value)
    return _check_tags_size(tags)


def _check_defined_tags(tags: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for namespace, entries in tags.items():
        for key, value in entries.items():
            _check_tag(key, value)
        _check_tag(namespace, "")
    return _check_tags_size(tags)


def _check_tag(key: str, value: Any) -> None:
    if not key or len(key) > MAX_TAG_KEY:
        raise ValueError(f"a tag key must be 1 to {MAX_TAG_KEY} characters: {key[:20]!r}…")
    if isinstance(value, str) and len(value) > MAX_TAG_VALUE:
        raise ValueError(f"the value of tag {key} is longer than {MAX_TAG_VALUE} characters")


def _check_tags_size(tags: T) -> T:
    if len(json.dumps(tags)) > MAX_TAGS_BYTES:
        raise ValueError(f"all tags together may take {MAX_TAGS_BYTES} bytes of JSON")
    return tags


def _none_if_empty(name: Any) -> Any:
    return None if name == "" else name


Moment = Annotated[
    datetime, PlainSerializer(format_moment, return_type=str, when_used="json-unless-none")
]
FreeformTags = Annotated[dict[str, str], AfterValidator(_check_freeform_tags)]
DefinedTags = Annotated[dict[str, dict[str, Any]], AfterValidator(_check_defined_tags)]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
OptionalName = Annotated[DisplayName | None, BeforeValidator(_none_if_empty)]
"""A display name that is made up, or stays, where a client gives none or an empty one."""
Description = Annotated[str, StringConstraints(max_length=4000)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=255)]
"""An OCID. Its form is not insisted upon: what names nothing is simply not found."""


class ChangeCompartment(RequestModel):
    compartment_id: Id


class Tagged(RequestModel):
    """What every resource may be created with, and changed to."""

    freeform_tags: FreeformTags | None = None
    defined_tags: DefinedTags | None = None


class Described(Tagged):
    description: Description | None = None


class Named(Described):
    display_name: OptionalName = None


class ResourceBase(ResponseModel):
    """What every resource is returned with."""

    id: str
    compartment_id: str
    time_created: Moment
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, object]]
