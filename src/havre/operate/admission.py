"""Whether the load balancer lets predictions in that a new key has signed.

The API knows a key as soon as it is registered. The load balancer gets it from the control plane,
which looks every second.
"""

import time

import httpx

from havre.auth.signer import Signer
from havre.domain.ocid import DEPLOYMENT_OCID_PREFIX

KNOWN_WITHIN_S = 8.0
POLL_S = 0.25
"""The access log has a line for each."""
PROBE = f"/{DEPLOYMENT_OCID_PREFIX}none/predict"
"""Of no deployment: whoever is let in gets a 404."""


def is_admitted(url: str, signer: Signer, *, within_s: float = KNOWN_WITHIN_S) -> bool:
    """Wait until the server lets in what this signs; False if it does not within
    ``within_s`` seconds.

    True as well where it requires no signatures, or does not answer: then there is nothing to wait
    for.
    """
    deadline = time.monotonic() + within_s
    with httpx.Client(trust_env=False) as client:
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                response = client.post(url + PROBE, content=b"null", auth=signer, timeout=left_s)
            except httpx.TimeoutException:
                return False
            except httpx.HTTPError:
                return True
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return True
            time.sleep(POLL_S)
    return False
