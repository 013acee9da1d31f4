"""The token by which Prometheus, which cannot sign as OCI's clients do, reads the metrics."""

import secrets

from havre import durable
from havre.home import Home


def load_or_create(home: Home) -> str:
    """Made once per home; whoever removes the file and restarts gets another. Raises OSError."""
    path = home.metrics_token
    try:
        if stored := path.read_text().strip():
            return stored
    except FileNotFoundError:
        pass
    durable.write_file(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path.read_text().strip()
