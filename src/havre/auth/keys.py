"""The public keys registered with a home, one PEM file each, named by user and fingerprint."""

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from havre import durable
from havre.home import Home

KEY_BITS = 2048


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def fingerprint(key: rsa.RSAPublicKey) -> str:
    """MD5 of the DER public key as sixteen pairs of hex digits: what key ids carry."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashlib.md5(der, usedforsecurity=False).hexdigest()
    return ":".join(digest[at : at + 2] for at in range(0, 32, 2))


def register(home: Home, user_ocid: str, key: rsa.RSAPublicKey) -> Path:
    """Let the holder of the private key sign as the user. Raises OSError."""
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    folder = home.keys / user_ocid
    durable.make_folder(folder)
    path = folder / f"{fingerprint(key).replace(':', '')}.pem"
    durable.write_file(path, pem)
    return path


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """With the label at its end that OCI's tools want to see in a key of an API."""
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem + b"OCI_API_KEY\n"
