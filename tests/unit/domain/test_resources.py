"""What a search finds, and in which order."""

from datetime import UTC, datetime, timedelta

import pytest

from havre.domain.errors import InvalidParameter
from havre.domain.resource_query import ResourceQuery, read_resource_query
from havre.domain.resources import Resource, check, contains_words, highlights

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)


def resource(identifier: str, kind: str = "DataScienceModel", days: int = 0, **values) -> Resource:
    stated = {
        "display_name": identifier,
        "lifecycle_state": "ACTIVE",
        "freeform_tags": {},
        "defined_tags": {},
        "fields": {},
        **values,
    }
    created = NOW - timedelta(days=days)
    return Resource(kind, identifier, "ocid1.compartment.x", created, **stated)


IRIS = resource(
    "iris",
    days=1,
    display_name="Iris Classifier",
    freeform_tags={"team": "plants", "stage": "prod"},
    fields={"description": "Three kinds of <flowers>", "projectId": "p1"},
)
WINE = resource(
    "wine",
    days=3,
    display_name="wine",
    lifecycle_state="INACTIVE",
    freeform_tags={"team": "prod"},
    defined_tags={"Ops": {"CostCenter": 42, "Owner": "platform"}},
    fields={"description": None, "projectId": "p2"},
)
SERVED = resource(
    "served",
    "DataScienceModelDeployment",
    days=2,
    display_name="iris served",
    fields={"modelId": "iris", "projectId": "p1"},
)
ALL = [IRIS, WINE, SERVED]


def found(text: str) -> list[str]:
    search = check(read_resource_query(text), NOW)
    rows = [one for one in ALL if one.resource_type in search.types and search.matches(one)]
    return [one.identifier for one in search.ordered(rows)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("displayName = 'WINE'", {"wine"}),
        ("displayName == 'WINE'", set()),
        ("displayName == 'wine'", {"wine"}),
        ("displayName != 'Wine'", {"iris", "served"}),
        ("displayName !== 'Wine'", {"iris", "wine", "served"}),
        ("displayName =~ 'IRIS'", {"iris", "served"}),
        ("displayName =~ '.*serv.*'", {"served"}),
        ("displayName =~ 'i*s*f'", {"iris"}),
        ("displayName =~ 's*i*r*w'", set()),
        ("displayName !~ 'iris'", {"wine"}),
        ("displayName >= 'wine'", {"wine"}),
        ("identifier in ('iris', 'wine')", {"iris", "wine"}),
        ("identifier not in ('iris', 'wine')", {"served"}),
        ("lifecycleState = 'ACTIVE' || lifecycleState = 'inactive'", {"iris", "wine", "served"}),
        ("modelId = 'iris'", {"served"}),
        ("description = 'x'", set()),
        ("description != 'x'", {"iris", "wine", "served"}),
        ("projectId = 'p1' && resourceType = 'datasciencemodel'", {"iris"}),
        ("timeCreated > now - 36h", {"iris"}),
        ("timeCreated >= '2026-05-03'", {"iris", "served"}),
        ("timeCreated < '2026-05-03T12:00:00Z'", {"wine"}),
        ("timeCreated = '2026-05-03T14:00:00+02:00'", {"served"}),
        ("timeCreated >= today", set()),
        ("timeCreated >= today - 1d", {"iris"}),
        ("freeformTags.key = 'team' && freeformTags.value = 'prod'", {"wine"}),
        ("(freeformTags.key = 'team') || (freeformTags.value = 'prod')", {"iris", "wine"}),
        ("freeformTags.value = 'prod'", {"iris", "wine"}),
        ("freeformTags.key != 'team'", {"served"}),
        ("freeformTags.key = 'stage' && freeformTags.value != 'test'", {"iris"}),
        (
            "definedTags.namespace = 'ops' && definedTags.key = 'CostCenter' && "
            "definedTags.value = '42'",
            {"wine"},
        ),
        ("definedTags.key = 'CostCenter' && definedTags.value = 'platform'", set()),
        ("definedTags.namespace != 'Ops'", {"iris", "served"}),
        (
            "(lifecycleState = 'ACTIVE' && (freeformTags.key = 'team')) && displayName =~ 'iris'",
            {"iris"},
        ),
    ],
)
def test_where(condition: str, expected: set[str]) -> None:
    assert set(found(f"query all resources where {condition}")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query all resources", ["iris", "served", "wine"]),
        ("query datasciencemodel resources", ["iris", "wine"]),
        (
            "query DataScienceModelDeployment, DATASCIENCEMODEL resources",
            ["iris", "served", "wine"],
        ),
        ("query all resources sorted by timeCreated asc", ["wine", "served", "iris"]),
        ("query all resources sorted by displayName", ["iris", "served", "wine"]),
        ("query all resources sorted by displayName desc", ["wine", "served", "iris"]),
        ("query all resources sorted by lifecycleState, timeCreated", ["served", "iris", "wine"]),
        ("query all resources sorted by modelId desc, displayName", ["served", "iris", "wine"]),
        ("query all resources matching 'iris'", ["iris", "served"]),
        ("query all resources where projectId = 'p2' matching 'iris'", []),
        ("query datasciencemodel resources matching 'plants'", ["iris"]),
    ],
)
def test_types_and_order(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iris", {"iris", "served"}),
        ("FLOWER iris", {"iris"}),
        ('"iris served"', {"served"}),
        ("iris served", {"served"}),
        ("platform", {"wine"}),
        ("42", {"wine"}),
        ("deployment", {"served"}),
        ("nothing", set()),
    ],
)
def test_free_text_is_found_in_every_field(text: str, expected: set[str]) -> None:
    assert {one.identifier for one in ALL if contains_words(one, text)} == expected


def test_highlights_are_html_with_the_words_marked() -> None:
    marked = highlights(IRIS, 'iris "<flow"')
    assert marked["displayName"] == ["<h1>Iris</h1> Classifier"]
    assert marked["description"] == ["Three kinds of <h1>&lt;flow</h1>ers&gt;"]
    assert "lifecycleState" not in marked
    assert highlights(IRIS, " ") == {}


def test_fields_that_are_returned_are_asked_for() -> None:
    def returned(clause: str) -> dict:
        query = read_resource_query(f"query datasciencemodel resources {clause}")
        return check(query, NOW).returned(IRIS)

    assert returned("") == {}
    assert returned("return projectId, displayName") == {"projectId": "p1"}
    assert returned("return allAdditionalFields") == dict(IRIS.fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query instance resources", "no resources of the type 'instance' here; there are Data"),
        ("query log resources where colour = 'red'", "'colour' is not a field of Log; those are"),
        ("query log resources where modelId = 'x'", "freeformTags.key"),
        ("query log resources sorted by freeformTags.key", "not a field"),
        ("query log resources return colour", "not a field"),
        ("query log resources where freeformTags.namespace = 'x'", "not a field"),
        ("query all resources where timeCreated > 'soon'", "'soon' is not a moment"),
        ("query all resources where timeCreated =~ '2026'", "is a moment, and has no =~"),
        ("query all resources where displayName = now", "is a text"),
        ("query all resources where timeCreated > now - 999999w", "100 years"),
        ("query all resources where !(colour = 'x')", "not a field"),
    ],
)
def test_what_is_not_here_is_told(text: str, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        check(read_resource_query(text), NOW)


def test_a_pattern_of_stars_costs_no_more_than_its_length() -> None:
    query = read_resource_query("query all resources where displayName =~ '" + "*a" * 4900 + "'")
    assert not check(query, NOW).matches(resource("x", display_name="a" * 4899 + "b"))
    assert check(ResourceQuery(), NOW).matches(IRIS)
