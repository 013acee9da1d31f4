"""The token by which Prometheus, which cannot sign as OCI's clients do, reads the metrics."""

import secrets

from havre import durable
from havre.domain.errors import SystemFault
from havre.home import Home


def load_or_create(home: Home) -> str:
    """Made once per home; removing the file and restarting makes another.

    Raises OSError when it cannot be written, SystemFault for a file that cannot be read.
    """
    path = home.metrics_token
    try:
        if stored := path.read_text().strip():
            return stored
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise SystemFault(
            f"{path} is damaged ({error}): restore it from a backup, or remove it, and another "
            "token is made"
        ) from error
    durable.write_file(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path.read_text().strip()
