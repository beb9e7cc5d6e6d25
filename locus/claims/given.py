"""A claim that somebody else made, by its text on the command line, its file, or the folder of a patching run.

This module gets at the content; `forms` says what it means. A text that reads as heads is heads: a file of such a name is
given as ./NAME.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from locus import registry
from locus.boundary import incoming
from locus.claims import forms
from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites.names import is_name

WHAT = "a claim: probe, patch:DIR, sites such as 12.3,14.0 or mlp.7, or a file of sites (.json, .npy, text)"
REMEDY = "docs/claims.md lists every form that a claim may have."
LIMIT = 8 << 20  # bytes of a file of heads
MAGIC = b"\x93NUMPY"
# As every version of numpy writes it; read so, nothing of a stranger's header is evaluated.
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biu][1248])', 'fortran_order': (True|False), 'shape': \(((?:\d{1,9}, ?)*(?:\d{1,9})?)\), \}\s*"
)


def is_heuristic(source: str) -> bool:
    """Whether a claim's source is the name of a heuristic, of which nothing is imported; any other claim was made elsewhere."""
    return source in registry.entries("claims")


def given(text: str) -> Claim:
    """A claim from a list of heads, a file, or the folder of a patching run as patch:DIR.

    Raises:
        UserError: if it cannot be read, or not as heads in exactly one way.
    """
    if text.startswith("patch:"):
        return _patched(text.removeprefix("patch:"))
    path = Path(text)
    if (spelt := spelled(text)) is not None:
        claim, about = spelt, {"text": text}
    elif os.path.lexists(text):
        claim, about = _read_claim(incoming.read_bytes(path, WHAT, LIMIT), repr(text), file=True), {"file": path.name}
    else:
        nearest = registry.near(text, registry.entries("claims"))
        raise UserError(WHAT, repr(text[:200]), f"{nearest} Check the spelling or the path.".lstrip())
    name = "given" if "text" in about else path.stem
    return replace(claim, name=claim.name or name, about=claim.about | about)


def spelled(text: str) -> Claim | None:
    """The claim that a text says by itself; None where the text can only be the name of something, which is not looked for.

    Raises:
        UserError: if it is heads that cannot be read in exactly one way.
    """
    heads = text.strip()[:1] in ("[", "{") or re.fullmatch(r"[-+\d.,\s]+", text) or all(map(is_name, _words(text)))
    return _read_claim(text.encode("utf-8", "surrogateescape"), repr(text[:60])) if heads else None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _read_claim(content: bytes, origin: str, file: bool = False) -> Claim:
    """The claim in a text or a file; who types heads knows that they are heads, and a file may be a table of scores.

    Raises:
        UserError: as `given`.
    """
    try:
        if content.startswith(MAGIC):
            return forms.read_claim(_array(content))
        text = content.decode("utf-8-sig")
        if text.lstrip()[:1] in ("[", "{"):
            return forms.read_claim(incoming.parse_json(text))
        if file or re.search(r"\b0\.\d\d", text):
            forms.columns(text)
        forms.one_notation(_words(text))
        return forms.read_claim(_words(text))
    except ValueError as error:  # bytes that are no text are one, too
        raise UserError(WHAT, f"{origin}: {str(error)[:300]}", REMEDY) from error


def _array(content: bytes) -> Any:
    """The array in a .npy file of whole numbers or Booleans, which has exactly the bytes that its header announces.

    Raises:
        ValueError: for anything else.
    """
    start = 10 if content[6:7] == b"\x01" else 12
    end = start + int.from_bytes(content[8:start], "little")
    header = HEADER.fullmatch(content[start:end])
    if header is None:
        raise ValueError("a .npy of something other than whole numbers or Booleans, not pickled")
    shape = tuple(int(size) for size in header[3].replace(b" ", b"").split(b",") if size)
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError as error:
        raise ValueError(f"a .npy of {header[1].decode()}") from error
    count = 1
    for size in shape:
        count *= size
    if count * dtype.itemsize != len(content) - end:
        raise ValueError(f"a .npy of shape {list(shape)} with {len(content) - end:,} bytes behind its header")
    return np.frombuffer(content, dtype, offset=end).reshape(shape, order="F" if header[2] == b"True" else "C")


def _patched(folder: str) -> Claim:
    """The heads that a patching run found."""
    path = Path(folder) / "patch.json"
    expected = "patch:DIR with the folder of a finished `locus patch` run"
    try:
        content: Any = incoming.read_json(path, expected, inside=path.parent)
        claim, tested = content["claim"], content["maps"][0]
        site, count = tested["site"], len(tested["components"])
        patched_claim = None if claim is None else forms.read_claim(claim)
    except (UserError, ValueError, KeyError, TypeError, IndexError) as error:
        problem = error.received if isinstance(error, UserError) else f"{folder!r} ({error!r:.300})"
        raise UserError(
            expected,
            problem,
            "Check the path; a run that was stopped goes on with the same command.",
        ) from error
    if patched_claim is None:
        raise UserError(
            "a patching run that found at least one head",
            f"{folder!r}, whose first map is of {site} and finds " + ("no head" if site == "head" else "no head by kind"),
            'Patch heads first (--set sites=["head"]), with more examples or a smaller least effect.'
            if site != "head"
            else f"None of {count} stands out: use more --pairs, a smaller --set least=, or another task.",
        )
    return replace(patched_claim, about=patched_claim.about | {"file": path.name})
