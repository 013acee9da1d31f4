"""A profile in an OCI configuration file: what makes `oci` and the SDK sign as this home's user."""

import configparser
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from havre import durable
from havre.auth import keys
from havre.auth.identity import OciIdentity
from havre.domain.errors import InvalidParameter
from havre.home import Home

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Profile:
    """What was written: where, under which name, with which key."""

    file: Path
    name: str
    key_file: Path
    fingerprint: str
    key: rsa.RSAPrivateKey = field(repr=False)


def write_profile(
    home: Home, identity: OciIdentity, *, file: Path, name: str, region: str
) -> Profile:
    """Write the profile into the file, beside the profiles it has, and register its key.

    The key is written beside the file and used again when it is there already. Raises
    InvalidParameter when the name or the file cannot be used.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise InvalidParameter(
            f"profile {name!r} must be letters, digits, '_', '-' and '.', at most 64"
        )
    file = file.expanduser().absolute()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = _read_text(file)
        key_file = file.with_name(f"{file.name}.{name}.pem")
        key = _load_or_make_key(key_file)
        keys.register(home, identity.user_ocid, key.public_key())
        fingerprint = keys.fingerprint(key.public_key())
        entries = {
            "user": identity.user_ocid,
            "fingerprint": fingerprint,
            "tenancy": identity.tenancy_ocid,
            "region": region,
            "key_file": str(key_file),
        }
        durable.write_file(file, merge(text, name, entries).encode())
    except OSError as error:
        raise InvalidParameter(f"{file} cannot be written: {error}") from error
    return Profile(file, name, key_file, fingerprint, key)


def merge(text: str, name: str, entries: dict[str, str]) -> str:
    """The text of a configuration file with one profile replaced or added; the rest as it was.

    Raises InvalidParameter when the text is no configuration file.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise InvalidParameter(
            f"the file is not an OCI configuration file: {error.message}"
        ) from error
    section = io.StringIO()
    section.write(f"[{name}]\n")
    section.writelines(f"{key}={value}\n" for key, value in entries.items())
    lines = text.splitlines(keepends=True)
    start = next((at for at, line in enumerate(lines) if _heading(line) == name), None)
    if start is None:
        before = "".join(lines)
        if before and not before.endswith("\n"):
            before += "\n"
        return before + ("\n" if before else "") + section.getvalue()
    after = start + 1
    while after < len(lines) and _heading(lines[after]) is None:
        after += 1
    rest = "".join(lines[after:])
    return "".join(lines[:start]) + section.getvalue() + ("\n" + rest if rest else "")


def _heading(line: str) -> str | None:
    match = re.match(r"\[([^\]]+)\]", line)
    return None if match is None else match[1]


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"{file} is not an OCI configuration file") from error


def _load_or_make_key(key_file: Path) -> rsa.RSAPrivateKey:
    if not key_file.exists():
        key = keys.new_key()
        durable.write_file(key_file, keys.private_pem(key))
        return key
    try:
        loaded = load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidParameter(
            f"{key_file} is in the way: it is not an RSA key without a passphrase"
        ) from error
    if not isinstance(loaded, rsa.RSAPrivateKey):
        raise InvalidParameter(f"{key_file} is in the way: it is not an RSA key")
    return loaded
