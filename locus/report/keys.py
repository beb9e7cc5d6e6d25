"""The Ed25519 key that signs receipts: made on first use in the user's configuration folder, readable by its owner alone."""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from locus.boundary import incoming
from locus.errors import UserError

KEY_FILE = "receipt-key.pem"


def config_home() -> Path:
    """The user's configuration folder: $LOCUS_CONFIG, or locus in the XDG configuration home."""
    if "LOCUS_CONFIG" in os.environ:
        return Path(os.environ["LOCUS_CONFIG"])
    return Path(os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))) / "locus"


def signing_key() -> Ed25519PrivateKey:
    """The user's key; made, with mode 0600, if there is none.

    Raises:
        UserError: if others can read the key, or it is no Ed25519 key.
        OSError: if the folder cannot be written.
    """
    path = config_home() / KEY_FILE
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise UserError(
            "a signing key that only its owner can read", f"{path} open to others", f"Run chmod 600 {path}, or remove it."
        )
    try:
        content = incoming.read_bytes(path, "a signing key", 1 << 16)
        key = serialization.load_pem_private_key(content, password=None)
    except (TypeError, ValueError) as error:
        raise UserError("an Ed25519 key in PEM", f"{path} ({error})", "Remove it; a new key is made.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError("an Ed25519 key in PEM", f"another kind of key in {path}", "Remove it; a new key is made.")
    return key


def own_public_key() -> str | None:
    """The public key, hexadecimal, of the user's signing key; None where there is none yet, or none that can be used."""
    try:
        return signing_key().public_key().public_bytes_raw().hex() if (config_home() / KEY_FILE).exists() else None
    except (OSError, UserError):
        return None


def _make(path: Path) -> None:
    """Write a new key whole; where another process was first, its key stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
    try:
        os.link(partial, path)  # a rename would replace a key that somebody has signed with
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def sign(message: bytes) -> dict[str, str]:
    """A signature by the user's key, with the public key that checks it; both hexadecimal.

    Raises:
        UserError, OSError: as `signing_key`.
    """
    key = signing_key()
    return {
        "algorithm": "ed25519",
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(message).hex(),
    }


def holds(message: bytes, signature: dict[str, str]) -> bool:
    """Whether a signature is of a message, by the public key inside it."""
    try:
        if signature["algorithm"] != "ed25519":
            return False
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        public.verify(bytes.fromhex(signature["signature"]), message)
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True
