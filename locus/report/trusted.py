"""The keys that a user trusts: one file in the configuration folder, a line a key, with the name that the user gave it.

A receipt proves who signed it only to somebody who knew the signer's key before. The user's own key is always known, as `you`.
"""

import re
from pathlib import Path

from locus import atomic
from locus.boundary import incoming
from locus.errors import UserError
from locus.report import keys

FILE = "trusted-keys"
OWN = "you"
KEY = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
IDENTITY = re.compile(r"[A-Z2-7]{26}")
WHAT = "a file of trusted keys, each line a public key (64 hexadecimal digits) and a name"


def file() -> Path:
    """Where the keys are listed."""
    return keys.config_home() / FILE


def listed() -> dict[str, str]:
    """The trusted keys: name to public key, without the user's own.

    Raises:
        UserError: if the file cannot be read as meant, or others can write to it.
    """
    path = file()
    if not path.exists() and not path.is_symlink():
        return {}
    text = incoming.text_of(incoming.read_bytes(path, WHAT, 1 << 20), WHAT, str(path))
    if path.stat().st_mode & 0o022:
        raise UserError("trusted keys that only you can change", f"{str(path)!r}, open to others", f"Run chmod 600 {path}.")
    keys_by_name: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        key, _, name = line.partition(" ")
        if not KEY.fullmatch(key) or not _free(name) or name in keys_by_name or key in keys_by_name.values():
            raise UserError(WHAT, f"line {number} of {str(path)!r}", "Mend or remove that line.")
        keys_by_name[name] = key
    return keys_by_name


def _free(name: str) -> bool:
    """Whether a name can be told from a key, a hash, an id and the user's own."""
    return bool(NAME.fullmatch(name)) and name != OWN and not KEY.fullmatch(name) and not IDENTITY.fullmatch(name)


def add(name: str, key: str) -> None:
    """Trust a key from now on, under a name.

    Raises:
        UserError: if it is no key, or name or key is taken.
    """
    if not KEY.fullmatch(key):
        raise UserError("a public key: 64 hexadecimal digits in lower case", repr(key[:80]), "Copy it as locus verify shows it.")
    if not _free(name):
        wanted = f"a name of letters, digits and ._@+- (at most 64), not {OWN!r} and not itself a key or an id"
        raise UserError(wanted, repr(name[:80]), "Choose another name.")
    keys_by_name = listed()
    if name in keys_by_name or key in keys_by_name.values():
        known = next(one for one, other in keys_by_name.items() if one == name or other == key)
        raise UserError("a new name and a new key", f"{known}, which is listed", f"Run locus keys remove {known} first.")
    _save({**keys_by_name, name: key})


def rename(name: str, new: str) -> None:
    """Give a trusted key another name.

    Raises:
        UserError: if there is none of that name, or the new one cannot be used.
    """
    key = remove(name)
    try:
        add(new, key)
    except UserError:
        add(name, key)
        raise


def remove(name: str) -> str:
    """Trust a key no longer, and return it.

    Raises:
        UserError: if there is none of that name.
    """
    keys_by_name = listed()
    if name not in keys_by_name:
        raise UserError("the name of a trusted key", repr(name[:80]), f"There are: {', '.join(keys_by_name) or 'none'}.")
    key = keys_by_name.pop(name)
    _save(keys_by_name)
    return key


def _save(keys_by_name: dict[str, str]) -> None:
    path = file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.replace(path, "".join(f"{key} {name}\n" for name, key in keys_by_name.items()))
        path.chmod(0o600)
    except OSError as error:
        raise UserError("a configuration folder that can be written", f"{str(path)!r} ({error})", "Set LOCUS_CONFIG.") from error


def name_of(key: str | None) -> str | None:
    """The name under which a key is trusted; None for a key that is not."""
    if key is None:
        return None
    if key == keys.own_public_key():
        return OWN
    return next((name for name, other in listed().items() if other == key), None)


def key_of(name: str) -> str:
    """The public key behind a name.

    Raises:
        UserError: if no key is trusted under it.
    """
    if name == OWN and (own := keys.own_public_key()):
        return own
    keys_by_name = listed()
    if name not in keys_by_name:
        raise UserError(
            "a public key, the name of a trusted key, or a receipt's id or hash",
            repr(name[:80]),
            f"Trusted names: {', '.join(keys_by_name) or 'none'}; add one with locus keys add NAME KEY.",
        )
    return keys_by_name[name]
