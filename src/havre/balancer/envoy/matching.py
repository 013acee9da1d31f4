"""The language of Envoy's matchers: predicates on headers, and what to do on a match."""

from havre.balancer.envoy.resources import Json, typed


def first(cases: list[tuple[Json, Json]], *, otherwise: Json | None = None) -> Json:
    matchers = [{"predicate": predicate, "on_match": on_match} for predicate, on_match in cases]
    tree: Json = {"matcher_list": {"matchers": matchers}}
    return tree if otherwise is None else {**tree, "on_no_match": otherwise}


def route_to(route: Json) -> Json:
    return {"action": {"name": "go", "typed_config": typed("envoy.config.route.v3.Route", **route)}}


def path_is(regex: str) -> Json:
    return header_is(":path", regex_match(regex))


def regex_match(regex: str) -> Json:
    return {"safe_regex": {"google_re2": {}, "regex": regex}}


def header_is(header: str, value: Json) -> Json:
    return {"single_predicate": {"input": header_input(header), "value_match": value}}


def header_input(header: str, *, of: str = "Request") -> Json:
    """A header of the request, or ``of`` the ``Response``."""
    kind = f"envoy.type.matcher.v3.Http{of}HeaderMatchInput"
    return {"name": header, "typed_config": typed(kind, header_name=header)}


def all_of(*predicates: Json) -> Json:
    return {"and_matcher": {"predicate": list(predicates)}}


def any_of(*predicates: Json) -> Json:
    return {"or_matcher": {"predicate": list(predicates)}}


def negation(predicate: Json) -> Json:
    return {"not_matcher": predicate}
