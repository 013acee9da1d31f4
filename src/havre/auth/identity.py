"""Who a home belongs to: its tenancy (also the default compartment), user and default project."""

import json
from dataclasses import asdict, dataclass

from havre import durable
from havre.domain.errors import SystemFault
from havre.domain.ocid import Kind, is_ocid, new_ocid
from havre.home import Home


@dataclass(frozen=True, slots=True)
class Identity:
    """Settled when first asked for, the same for the life of the home."""

    tenancy_ocid: str
    user_ocid: str
    project_ocid: str


def load_or_create(home: Home) -> Identity:
    """The identity of a home; two callers at once get the same one.

    Raises SystemFault when the file is there but is not an identity: making a new one would leave
    everything that exists in a compartment nobody knows.
    """
    path = home.root / "identity.json"
    with durable.file_lock(home.root / "identity.lock"):
        if not path.exists():
            identity = Identity(new_ocid(Kind.TENANCY), new_ocid(Kind.USER), new_ocid(Kind.PROJECT))
            durable.write_file(path, json.dumps(asdict(identity), indent=2).encode())
            return identity
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
