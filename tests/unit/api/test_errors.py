"""Errors become status codes in one place, and every error of the tree has one."""

import pytest

from havre.api.errors import status_of
from havre.domain import errors


def family(kind: type) -> list[type]:
    """The tree as drawn in the domain; what clients make of answers is none of it."""
    children = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return [kind, *(member for child in children for member in family(child))]


@pytest.mark.parametrize("kind", family(errors.HavreError), ids=lambda kind: kind.__name__)
def test_a_status_says_whose_fault_it_is(kind):
    status = status_of(kind("x"))
    if issubclass(kind, errors.SystemFault) or kind is errors.HavreError:
        assert status in {500, 503}
    elif kind is errors.NotImplementedHere:
        assert status == 501
    else:
        assert 400 <= status < 500


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidParameter("x"), 400, "InvalidParameter"),
        (errors.MissingParameter("x"), 400, "MissingParameter"),
        (errors.LimitExceeded("x"), 400, "LimitExceeded"),
        (errors.RelatedNotFound("x"), 400, "RelatedResourceNotAuthorizedOrNotFound"),
        (errors.NotFound("x"), 404, "NotAuthorizedOrNotFound"),
        (errors.Conflict("x"), 409, "Conflict"),
        (errors.IncorrectState("x"), 409, "IncorrectState"),
        (errors.EtagMismatch("x"), 412, "NoEtagMatch"),
        (errors.Unavailable("x"), 503, "ServiceUnavailable"),
    ],
)
def test_statuses_and_codes_are_those_of_the_original(error, status, code):
    assert (status_of(error), error.code) == (status, code)
