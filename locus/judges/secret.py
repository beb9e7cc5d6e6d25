"""A key that is sent to one endpoint and shown nowhere: checked before it is used, hidden where it is held, struck out of text.

It is struck out of what is shown or stored, in every spelling that an endpoint's echo may come in, and never out of a reply
before that is read. A key of fewer than eight characters is no secret ("set it to anything"), and striking it would garble
plain words.
"""

import base64
import html
import json
import os
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

from locus.errors import UserError

KEYS = ("LOCUS_JUDGE_KEY", "OPENAI_API_KEY")
SECRET = 8  # characters from which on a key can be one
LONGEST = 4096
STRUCK = "[key]"


class Secret:
    """A text whose `repr` and `str` hide it, and that is not pickled.

    Args:
        value: what is to be hidden.
    """

    __slots__ = ("_spellings", "_value")

    def __init__(self, value: str):
        self._value = value
        self._spellings = sorted(spellings(value), key=len, reverse=True) if len(value) >= SECRET else []

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value

    def struck(self, text: str) -> str:
        """Text without the secret, however it is spelled there; as it is where the secret is too short to be one."""
        for spelling in self._spellings:
            text = text.replace(spelling, STRUCK)
        return text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a secret is not pickled")


def spellings(value: str) -> set[str]:
    """A text as it is, as Python, JSON, a URL and HTML write it, in hexadecimal digits and in base64."""
    raw = value.encode()
    variants = {
        value,
        repr(value)[1:-1],
        ascii(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value)[1:-1].replace("/", "\\/"),
    }
    variants |= {html.escape(value), html.escape(value, quote=False), raw.hex(), raw.hex().upper()}
    variants |= {quote(value), quote(value, safe=""), quote_plus(value), _lower(quote(value, safe=""))}
    for before in range(3):
        # In base64 of a longer text the key begins at one of three places in a group; only its whole characters are its own.
        coded = base64.b64encode(b"\0" * before + raw).decode()
        own = coded[-(-before * 4 // 3) : (before + len(raw)) * 4 // 3]
        variants |= {own, own.replace("+", "-").replace("/", "_")}
    return {one for one in variants if len(one) >= SECRET}


def _lower(quoted: str) -> str:
    """A quoted text with its escapes in lower case, as some write them."""
    first, *escapes = quoted.split("%")
    return "%".join([first, *(escape[:2].lower() + escape[2:] for escape in escapes)])


def key() -> Secret:
    """The endpoint's key, from the environment.

    Raises:
        UserError: if there is none, or it is one that no header can carry as it stands; the key itself is not shown.
    """
    name = next((name for name in KEYS if os.environ.get(name)), None)
    if name is None:
        expected = f"the endpoint's key in the environment, as {' or '.join(KEYS)}"
        raise UserError(expected, "neither", "Set one of them (to anything, if the endpoint wants no key).")
    value = os.environ[name]
    if wrong := _wrong(value):
        expected = f"a key of printable ASCII characters without blanks at its ends in {name}"
        raise UserError(expected, wrong, "Copy the key again: what is not its own is often copied along, unseen.")
    return Secret(value)


def _wrong(value: str) -> str:
    """What is wrong with a key, without showing it; empty if nothing is."""
    odd = next((place for place, char in enumerate(value, 1) if not " " <= char <= "~"), None)
    if odd is not None:
        return f"one whose character {odd} of {len(value)} is none of these"
    if value != value.strip():
        return "one with a blank at an end"
    return f"one of {len(value)} characters" if len(value) > LONGEST else ""
