"""Who a home belongs to: its tenancy (also the default compartment), user and default project."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from havre import durable
from havre.domain.errors import SystemFault
from havre.domain.ocid import Kind, is_ocid, is_short_id, new_ocid, new_short_id
from havre.home import Home


@dataclass(frozen=True, slots=True)
class OciIdentity:
    """Made when first asked for, and the same for the life of the home."""

    tenancy_ocid: str
    user_ocid: str
    project_ocid: str


def new_identity() -> OciIdentity:
    return OciIdentity(new_ocid(Kind.TENANCY), new_ocid(Kind.USER), new_ocid(Kind.PROJECT))


def load_or_create(home: Home) -> OciIdentity:
    """The identity of a home; two callers at once get the same one.

    Raises SystemFault when the file is there but is not an identity: making a new one would leave
    everything that exists in an unknown compartment.
    """
    return resolve_identity(home, lambda own: own or new_identity())


def resolve_identity(
    home: Home, choose: Callable[[OciIdentity | None], OciIdentity]
) -> OciIdentity:
    """The identity of a home, from now on what ``choose`` makes of the present one (None: none).

    The home is locked meanwhile. Raises SystemFault as `load_or_create` does, and what
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
    """The identifier of this home among those of its database; made when it is first needed.

    Raises SystemFault for a file that is damaged.
    """
    with durable.file_lock(home.root / "identity.lock"):
        if not home.id_file.exists():
            durable.write_file(home.id_file, new_short_id().encode())
        try:
            content = home.id_file.read_text()
        except (OSError, ValueError) as error:
            raise _damaged_id(home, str(error)) from error
    if not is_short_id(content):
        raise _damaged_id(home, "it is not an identifier")
    return content


def _damaged_id(home: Home, why: str) -> SystemFault:
    return SystemFault(
        f"{home.id_file} is damaged ({why}): restore it from a backup, or remove it; then this "
        "home is another one to the others of its database"
    )


def _read(path: Path) -> OciIdentity:
    try:
        identity = OciIdentity(**json.loads(path.read_bytes()))
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise SystemFault(f"{path} is damaged ({error}); restore it from a backup") from error
    expected = {
        Kind.TENANCY: identity.tenancy_ocid,
        Kind.USER: identity.user_ocid,
        Kind.PROJECT: identity.project_ocid,
    }
    for kind, ocid in expected.items():
        if not isinstance(ocid, str) or not is_ocid(ocid, kind):
            raise SystemFault(f"{path} is damaged: {ocid!r} is not a {kind}; restore it")
    return identity
