"""A claim that somebody else made, by its text on the command line, its file or folder, or the folder of a patching run.

This module gets at the content; an importer or `forms` says what it means. A text that reads as heads is heads: a file of such a
name is given as ./NAME. NAME:PATH names the importer; what stands behind a path's `#` says how many of its scores are claimed.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from locus import registry
from locus.boundary import incoming
from locus.claims import direction, forms
from locus.claims.claim import Claim
from locus.claims.importers import opening
from locus.claims.importers.source import Source
from locus.claims.published import ANY, Choice, Published, of_claim, renamed
from locus.errors import UserError
from locus.sites.kind import default
from locus.sites.names import NUMBER, is_name

WHAT = "a claim: probe, patch:DIR, sites such as 12.3,14.0 or mlp.7, or a file of sites or of their scores (.json, .npy, text)"
PAIR = rf"\(\s*{NUMBER}\s*,\s*{NUMBER}\s*\)"
PAIRS = re.compile(rf"\s*{PAIR}(?:[\s,;]*{PAIR})*\s*", re.ASCII)  # (12, 3), (14, 0), as papers write heads
REMEDY = "docs/claims.md lists every form that a claim may have."


def is_heuristic(source: str) -> bool:
    """Whether a claim's source is the name of a heuristic, of which nothing is imported; any other claim was made elsewhere."""
    entry = registry.entries("claims").get(source.partition(":")[0])
    return entry is not None and re.fullmatch(entry.within or "", source.removeprefix(entry.name)) is not None


def given(text: str, choice: Choice = ANY) -> Claim:
    """A claim from a list of heads, a file, or the folder of a patching run as patch:DIR.

    Args:
        text: as on a command line.
        choice: how many of a file's scores are claimed, in place of what stands behind its `#`.

    Raises:
        UserError: if it cannot be read, or not as heads in exactly one way.
    """
    published, part = said(text)
    if part is not None and choice.said:
        raise UserError("a size behind the # or beside it", f"{text[:80]!r} and {choice}", "Say it once.")
    return published.chosen(part or choice)


def said(text: str) -> tuple[Published, Choice | None]:
    """What a text, a file or a folder says of where a behaviour lives, and the choice behind its `#`.

    Raises:
        UserError: if it cannot be read.
    """
    if text.startswith("patch:"):
        return of_claim(_patched(text.removeprefix("patch:"))), None
    if (spelt := spelled(text)) is not None:
        return renamed(of_claim(spelt), "given", text=text), None
    if (directed := _directed(text)) is not None:
        return of_claim(directed), None
    name, path, part = _placed(text)
    source = Source(Path(path), WHAT, part, bool(name))
    importer = opening.get(name) if name else opening.fitting(source)
    if importer is None:
        claim = _read_claim(source.bytes if source.array is None else source.array, repr(path), file=True)
        published = renamed(of_claim(claim), source.path.stem)
    else:
        published = opening.read(importer, source)
    about = {"file": source.path.name, **({"sha256": source.sha256} if source.sha256 else {})}
    own = part if importer is not None and importer.parts else ""
    # A claim that was converted keeps where it came from.
    kept = {} if "sha256" in published.about else about
    return renamed(published, "given", **kept), Choice.of_part(part) if part and not own else None


def _directed(text: str) -> Claim | None:
    """The claim of a direction at some layers, as FILE.npy@12, FILE.safetensors:KEY@12-15, sae:FOLDER#5@12 or means@all.

    Raises:
        UserError: if it is one that cannot be read, or a file says another place.
    """
    placed = None if os.path.lexists(text) else direction.placed(text)
    if placed is None:
        return None
    source, layers = placed
    if source == direction.MEANT:
        return direction.means(layers)
    path, _, key = source.rpartition(":")
    if path.endswith(".safetensors") and os.path.lexists(path):
        return direction.read(Source(Path(path), WHAT), key, layers)
    name, path, part = _placed(source)
    found = Source(Path(path), WHAT, part, bool(name))
    importer = opening.get(name) if name else opening.fitting(found) if found.kind != "array" else None
    if importer is None or (found.kind == "safetensors" and not name):
        return direction.read(found, "", layers)
    return opening.read(importer, found).directed(layers)


def _placed(text: str) -> tuple[str, str, str]:
    """The importer that a text names, the path, and what stands behind its `#`.

    Raises:
        UserError: if nothing is there.
    """
    name, colon, rest = text.partition(":")
    named = bool(colon) and name in registry.entries("importers") and not os.path.lexists(text)
    path = rest if named else text
    front, sharp, part = path.rpartition("#")
    if sharp and front and not os.path.lexists(path):
        path = front
    else:
        part = ""
    if not os.path.lexists(path):
        if text.strip() and all(map(is_name, _words(re.sub(r"\d{6,}", "1", text)))):
            raise UserError(WHAT, repr(text[:200]), "A number of a site has at most five digits.")
        nearest = registry.near(name, registry.entries("importers" if colon else "claims"))
        raise UserError(WHAT, repr(text[:200]), f"{nearest} Check the spelling or the path.".lstrip())
    return name if named else "", path, part


def spelled(text: str) -> Claim | None:
    """The claim that a text says by itself; None where the text can only be the name of something, which is not looked for.

    Raises:
        UserError: if it is heads that cannot be read in exactly one way.
    """
    heads = (
        text.strip()[:1] in ("[", "{")
        or PAIRS.fullmatch(text)
        or re.fullmatch(r"[-+\d.,\s]+", text)
        or all(map(is_name, _words(text)))
    )
    return _read_claim(text.encode("utf-8", "surrogateescape"), repr(text[:60])) if heads else None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _read_claim(content: Any, origin: str, file: bool = False) -> Claim:
    """The claim in a text, a file or an array; who types heads knows that they are heads, and a file may be a table of scores.

    Raises:
        UserError: as `given`.
    """
    try:
        if not isinstance(content, bytes):
            return forms.read_claim(content)
        text = content.decode("utf-8-sig")
        if file:
            text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        if PAIRS.fullmatch(text):
            return forms.read_claim([[int(layer), int(head)] for layer, head in re.findall(PAIR, text)])
        if text.lstrip()[:1] in ("[", "{"):
            return forms.read_claim(incoming.parse_json(text))
        if file or re.search(r"\b0\.\d\d", text):
            forms.columns(text)
        forms.one_notation(_words(text))
        return forms.read_claim(_words(text))
    except ValueError as error:  # bytes that are no text are one, too
        raise UserError(WHAT, f"{origin}: {str(error)[:300]}", REMEDY) from error


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
            f"{folder!r}, whose first map is of {site} and finds " + ("no head" if site == default().name else "no head by kind"),
            'Patch heads first (--set sites=["head"]), with more examples or a smaller least effect.'
            if site != default().name
            else f"None of {count} stands out: use more --pairs, a smaller --set least=, or another task.",
        )
    return replace(patched_claim, about=patched_claim.about | {"file": path.name})
