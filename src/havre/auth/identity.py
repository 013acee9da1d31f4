"""Who a home belongs to: its tenancy (also the default compartment), user and default project."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from havre import durable
from havre.domain.errors import SystemFault
from havre.domain.ocid import Kind, is_ocid, new_ocid, new_short_id
from havre.home import Home


@dataclass(frozen=True, slots=True)
class Identity:
    """Settled when first asked for, the same for the life of the home."""

    tenancy_ocid: str
    user_ocid: str
    project_ocid: str


def new_identity() -> Identity:
    return Identity(new_ocid(Kind.TENANCY), new_ocid(Kind.USER), new_ocid(Kind.PROJECT))


def load_or_create(home: Home) -> Identity:
    """The identity of a home; two callers at once get the same one.

    Raises SystemFault when the file is there but is not an identity: making a new one would leave
    everything that exists in a compartment nobody knows.
    """
    return settle(home, lambda own: own or new_identity())


def settle(home: Home, choose: Callable[[Identity | None], Identity]) -> Identity:
    """The identity of a home, from now on what ``choose`` makes of the present one (None: none).

    Nobody else settles it meanwhile. Raises SystemFault as `load_or_create` does, and what
    ``choose`` raises.
    """
    path = home.root / "identity.json"
    with durable.file_lock(home.root / "identity.lock"):
        own = _read(path) if path.exists() else None
        identity = choose(own)
        if identity != own:
            durable.write_file(path, json.dumps(asdict(identity), indent=2).encode())
    return identity


def home_id(home: Home) -> str:
    """What tells this home from the others of its database; made when it is first needed."""
    with durable.file_lock(home.root / "identity.lock"):
        if not home.id_file.exists():
            durable.write_file(home.id_file, new_short_id().encode())
        return home.id_file.read_text()


def _read(path: Path) -> Identity:
    try:
        identity = Identity(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise SystemFault(f"{path} is damaged ({error}); restore it from a backup") from error
    wanted = {
        Kind.TENANCY: identity.tenancy_ocid,
        Kind.USER: identity.user_ocid,
        Kind.PROJECT: identity.project_ocid,
    }
    for kind, ocid in wanted.items():
        if not is_ocid(ocid, kind):
            raise SystemFault(f"{path} is damaged: {ocid!r} is no {kind}; restore it")
    return identity
