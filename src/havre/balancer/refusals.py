"""What the load balancer responds itself to requests that it turns away.

A short request gets its response from the load balancer. A long one goes to the control plane,
which drains it first (``havre.api.refusals``) and responds the same.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response in OCI's form."""

    status: int
    code: str
    message: str


TOO_LARGE = "too-large"
FOREIGN_HOST = "foreign-host"
FOREIGN_PAGE = "foreign-page"

REFUSALS = {
    TOO_LARGE: Refusal(413, "PayloadTooLarge", "The body of a prediction is at most 10 MB."),
    FOREIGN_HOST: Refusal(
        403,
        "NotAuthorized",
        "This server asks for no signatures, so it only answers to this machine's own names. Call "
        "it as 127.0.0.1 or localhost, or add the name in the Host header to the setting "
        "allowed_hosts, or have requests signed (auth = oci).",
    ),
    FOREIGN_PAGE: Refusal(
        403,
        "NotAuthorized",
        "This server asks for no signatures, so web pages from elsewhere may not call it, only "
        "those at its own address or at a host of the setting allowed_hosts. Call it from a "
        "program, or have requests signed (auth = oci).",
    ),
}
API_AWAY = "The API is not up at the moment; try again."
REFUSAL_HEADER = "x-havre-refusal"
"""On a request that is to be drained: which of these is the response."""
