"""Conditions of searches over logs that several commands use."""

from havre.queries.log_parser import quote_text


def of_request(request: str) -> str:
    """A condition on entries; what was printed for several requests together names them all."""
    named = quote_text(request)[1:-1]
    shapes = (named, f"{named},*", f"*,{named}", f"*,{named},*")
    conditions = [f"data.opcRequestId = '{shape}'" for shape in shapes]
    return f"({' or '.join(conditions)})"
