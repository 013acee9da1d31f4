"""Resources as searches see them: their types and fields, and which match a query. Pure.

Texts are compared without regard to case by ``=`` and ``!=``, exactly by ``==`` and ``!==``.
``=~`` looks for a text anywhere in a field; ``*`` and ``.*`` in it match anything.
"""

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from havre.domain.errors import InvalidParameter
from havre.domain.resource_query import (
    EVERY_FIELD,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    FromNow,
    Not,
    ResourceQuery,
    SortKey,
    Value,
)

TEXT, MOMENT = "STRING", "DATETIME"

COMMON: Mapping[str, str] = {
    "resourceType": TEXT,
    "identifier": TEXT,
    "displayName": TEXT,
    "compartmentId": TEXT,
    "timeCreated": MOMENT,
    "lifecycleState": TEXT,
}
TAGS: Mapping[str, tuple[str, ...]] = {
    "freeformTags": ("key", "value"),
    "definedTags": ("namespace", "key", "value"),
}
_OF_PROJECT = {"description": TEXT, "createdBy": TEXT}
_OF_MODEL = {"description": TEXT, "createdBy": TEXT, "projectId": TEXT, "lifecycleDetails": TEXT}
TYPES: Mapping[str, Mapping[str, str]] = {
    "DataScienceProject": _OF_PROJECT,
    "DataScienceModel": {**_OF_MODEL, "modelVersionSetId": TEXT, "versionLabel": TEXT},
    "DataScienceModelVersionSet": {
        **_OF_PROJECT,
        "projectId": TEXT,
        "timeUpdated": MOMENT,
    },
    "DataScienceModelDeployment": {**_OF_MODEL, "modelId": TEXT},
    "LogGroup": {**_OF_PROJECT, "timeLastModified": MOMENT},
    "Log": {"createdBy": TEXT, "logGroupId": TEXT, "timeLastModified": MOMENT},
}
"""Each type that can be searched, with the fields that not all types have."""

_FIELDS = {
    name.lower(): (name, kind)
    for fields in (COMMON, *TYPES.values())
    for name, kind in fields.items()
}
_ORDERED = frozenset({"<", "<=", ">", ">="})
_NEGATIVE = {"!=": "=", "!==": "==", "!~": "=~"}
_WILD = re.compile(r"\.?\*")
_WORDS = re.compile(r'"([^"]+)"|(\S+)')

FieldValue = str | datetime | None


@dataclass(frozen=True, slots=True)
class Resource:
    """``fields`` holds the type's own ones, by their names."""

    resource_type: str
    identifier: str
    compartment_id: str
    time_created: datetime
    display_name: str
    lifecycle_state: str
    freeform_tags: Mapping[str, str]
    defined_tags: Mapping[str, Mapping[str, object]]
    fields: Mapping[str, FieldValue]

    def value(self, field: str) -> FieldValue:
        common: dict[str, FieldValue] = {
            "resourceType": self.resource_type,
            "identifier": self.identifier,
            "displayName": self.display_name,
            "compartmentId": self.compartment_id,
            "timeCreated": self.time_created,
            "lifecycleState": self.lifecycle_state,
        }
        return common[field] if field in common else self.fields.get(field)

    def tags(self, kind: str) -> Iterator[dict[str, str]]:
        if kind == "freeformTags":
            for key, value in self.freeform_tags.items():
                yield {"key": key, "value": value}
        else:
            for namespace, entries in self.defined_tags.items():
                for key, content in entries.items():
                    yield {"namespace": namespace, "key": key, "value": str(content)}

    def texts(self) -> Iterator[tuple[str, str]]:
        """The texts that free text is searched in, by field."""
        for field in (*COMMON, *self.fields):
            if isinstance(value := self.value(field), str):
                yield field, value
        for kind in TAGS:
            for tag in self.tags(kind):
                for part, value in tag.items():
                    yield f"{kind}.{part}", value


@dataclass(frozen=True, slots=True)
class Search:
    """A query that has been checked, and can be matched with resources."""

    query: ResourceQuery
    types: tuple[str, ...]
    now: datetime

    def matches(self, resource: Resource) -> bool:
        where, matching = self.query.where, self.query.matching
        return (where is None or self._holds(where, resource)) and (
            not matching or contains_words(resource, matching)
        )

    def ordered(self, resources: Sequence[Resource]) -> list[Resource]:
        """In the query's order, else newest first; equals by their identifiers."""
        rows = sorted(resources, key=lambda resource: resource.identifier)
        for key in reversed(self.query.sorted_by or (SortKey("timecreated", True),)):
            name = _FIELDS[key.field][0]
            rows.sort(key=_sorter(name), reverse=key.descending)
        return rows

    def returned(self, resource: Resource) -> dict[str, FieldValue]:
        """The fields that the query asks for, beside those that all have."""
        if EVERY_FIELD in self.query.returned:
            return dict(resource.fields)
        names = [_FIELDS[field][0] for field in self.query.returned]
        return {name: resource.fields[name] for name in names if name in resource.fields}

    def _holds(self, condition: Condition, resource: Resource) -> bool:
        match condition:
            case AnyOf(parts):
                return any(self._holds(part, resource) for part in parts)
            case Not(part):
                return not self._holds(part, resource)
            case AllOf(parts):
                of_tags = [part for part in parts if _tag_kind(part)]
                others = [part for part in parts if not _tag_kind(part)]
                kinds = dict.fromkeys(_tag_kind(part) for part in of_tags)
                return all(self._holds(part, resource) for part in others) and all(
                    self._one_tag([p for p in of_tags if _tag_kind(p) == kind], kind, resource)
                    for kind in kinds
                )
            case Comparison() as comparison:
                if kind := _tag_kind(comparison):
                    return self._one_tag([comparison], kind, resource)
                name, _ = _FIELDS[comparison.field]
                return self._compares(resource.value(name), comparison)
        raise AssertionError(condition)

    def _one_tag(self, conditions: list[Condition], kind: str, resource: Resource) -> bool:
        """Whether one tag meets all of them; if they are denials only, whether every tag does."""
        comparisons = [part for part in conditions if isinstance(part, Comparison)]
        tags = resource.tags(kind)
        met = (
            all(self._compares(tag[part.field.partition(".")[2]], part) for part in comparisons)
            for tag in tags
        )
        return all(met) if all(part.operator in _NEGATIVE for part in comparisons) else any(met)

    def _compares(self, value: FieldValue, comparison: Comparison) -> bool:
        if comparison.operator in _NEGATIVE:
            positive = Comparison(
                comparison.field, _NEGATIVE[comparison.operator], comparison.value
            )
            return not self._compares(value, positive)
        if value is None:
            return False
        if isinstance(value, datetime):
            return _compare(value, comparison.operator, self._moment(comparison.value))
        expected = _as_text(comparison.value)
        if comparison.operator == "=~":
            return _is_like(value.lower(), expected.lower())
        if comparison.operator == "==":
            return value == expected
        return _compare(value.lower(), comparison.operator, expected.lower())

    def _moment(self, value: Value) -> datetime:
        if isinstance(value, FromNow):
            begin = self.now
            if value.is_today:
                begin = begin.replace(hour=0, minute=0, second=0, microsecond=0)
            return begin + value.offset
        return read_moment(str(value))


def check(query: ResourceQuery, now: datetime) -> Search:
    """Raises InvalidParameter: no such type or field here, or a value that does not fit."""
    known = {name.lower(): name for name in TYPES}
    for type_name in query.types:
        if type_name not in known:
            raise InvalidParameter(
                f"query: there are no resources of the type {type_name[:100]!r} here; there are "
                f"{', '.join(TYPES)}, and all"
            )
    types = tuple(known[type_name] for type_name in query.types) or tuple(TYPES)
    fields = {name.lower() for name in COMMON}
    fields |= {name.lower() for type_name in types for name in TYPES[type_name]}
    for key in query.sorted_by:
        _check_field(key.field, fields, types)
    for field in query.returned:
        if field != EVERY_FIELD:
            _check_field(field, fields, types)
    if query.where is not None:
        _check_condition(query.where, fields, types)
    return Search(query, types, now)


def contains_words(resource: Resource, text: str) -> bool:
    """Whether each word of a text (or each part in quotes) is somewhere in the resource."""
    values = [value.lower() for _, value in resource.texts()]
    return all(any(word in value for value in values) for word in _words(text))


def highlights(resource: Resource, text: str) -> dict[str, list[str]]:
    """The fields in which words of a text are, as HTML with the words between ``<h1>`` tags."""
    words = sorted(_words(text), key=len, reverse=True)
    if not words:
        return {}
    pattern = re.compile("|".join(re.escape(word) for word in words), re.IGNORECASE)
    highlighted: dict[str, list[str]] = {}
    for field, value in resource.texts():
        marked, at = "", 0
        for match in pattern.finditer(value):
            marked += html.escape(value[at : match.start()])
            marked += f"<h1>{html.escape(match[0])}</h1>"
            at = match.end()
        if marked:
            highlighted.setdefault(field, []).append(marked + html.escape(value[at:]))
    return highlighted


def read_moment(text: str) -> datetime:
    """A moment as ISO 8601 has it; without a zone it is UTC. Raises InvalidParameter."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidParameter(
            f"query: {text[:50]!r} is not a moment such as '2026-11-22T07:00:00Z', '2026-11-22', "
            "now or now - 7d"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _check_condition(condition: Condition, fields: set[str], types: Sequence[str]) -> None:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                _check_condition(part, fields, types)
        case Not(part):
            _check_condition(part, fields, types)
        case Comparison() as comparison:
            _check_comparison(comparison, fields, types)


def _check_comparison(comparison: Comparison, fields: set[str], types: Sequence[str]) -> None:
    if not _tag_kind(comparison):
        _check_field(comparison.field, fields, types)
        if _FIELDS[comparison.field][1] == MOMENT:
            if comparison.operator in ("=~", "!~"):
                raise InvalidParameter(
                    f"query: {comparison.field} is a moment, and has no {comparison.operator}"
                )
            if not isinstance(comparison.value, FromNow):
                read_moment(str(comparison.value))
            elif abs(comparison.value.offset) > timedelta(days=36_500):
                raise InvalidParameter("query: spans of time may be 100 years long")
            return
    if isinstance(comparison.value, FromNow):
        raise InvalidParameter(
            f"query: {comparison.field} is a text, and is not compared with a moment"
        )


def _check_field(field: str, fields: set[str], types: Sequence[str]) -> None:
    if field not in fields:
        shown = [*COMMON, *dict.fromkeys(name for type_name in types for name in TYPES[type_name])]
        tags = [f"{kind}.{part}" for kind, parts in TAGS.items() for part in parts]
        raise InvalidParameter(
            f"query: {field[:100]!r} is not a field of {', '.join(types)}; those are "
            f"{', '.join([*shown, *tags])}"
        )


def _tag_kind(condition: Condition) -> str:
    """``freeformTags`` or ``definedTags`` for a condition on a part of a tag, or empty."""
    if isinstance(condition, Comparison):
        kind, _, part = condition.field.partition(".")
        for name, parts in TAGS.items():
            if kind == name.lower() and part in parts:
                return name
    return ""


def _is_like(value: str, expected: str) -> bool:
    at = 0
    for piece in _WILD.split(expected):
        position = value.find(piece, at)
        if position < 0:
            return False
        at = position + len(piece)
    return True


def _compare(value: str | datetime, operator: str, expected: str | datetime) -> bool:
    if operator not in _ORDERED:
        return value == expected
    low, high = (value, expected) if operator in ("<", "<=") else (expected, value)
    return low < high or (operator.endswith("=") and low == high)  # type: ignore[operator]


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(text: str) -> list[str]:
    return [(quoted or word).lower() for quoted, word in _WORDS.findall(text)]


def _sorter(name: str) -> Callable[[Resource], tuple[bool, str]]:
    """What has no such field comes first in ascending order, last in descending."""

    def key(resource: Resource) -> tuple[bool, str]:
        value = resource.value(name)
        text = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value or ""
        return value is not None, text.lower()

    return key
