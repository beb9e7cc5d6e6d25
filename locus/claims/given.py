"""A claim that somebody else made: `12.3,14.0`, or a file.

Files: a claim that locus wrote, a JSON list of heads, a circuit JSON with head names such as `a9.h6` or
`blocks.9.attn.hook_z[6]`, or an ITI or LoFiT `.npy` of (layer, head) rows (never unpickled).
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites import Location, Site

NAMES = (
    re.compile(r"^(\d+)\.(\d+)$"),
    re.compile(r"^a(\d+)\.h(\d+)"),
    re.compile(r"^blocks\.(\d+)\.attn\.hook_(?:z|result)\[(\d+)\]"),
)


def given(text: str) -> Claim:
    """A claim from a list of heads, a file, or the folder of a patching run as patch:DIR.

    Raises:
        UserError: if none can be read as heads.
    """
    if text.startswith("patch:"):
        return _patched(text.removeprefix("patch:"))
    path = Path(text)
    if re.fullmatch(r"[\d.,\s]+", text):
        return Claim("given", Location.parse(text), "given", about={"text": text})
    if not path.is_file():
        raise UserError(
            "a claim: probe, patch:DIR, a list of heads such as 12.3,14.0, or a file of heads (.json, .npy)",
            repr(text),
            "Check the spelling or the path.",
        )
    if path.suffix == ".npy":
        return Claim(path.stem, _from_npy(path), "given", about={"file": path.name})
    try:
        written = path.read_text(encoding="utf-8")
        if re.fullmatch(r"[\d.,\s]+", written):
            return Claim(
                path.stem,
                Location.parse(",".join(re.split(r"[,\s]+", written.strip(", \n")))),
                "given",
                about={"file": path.name},
            )
        content = json.loads(written)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(
            "a file of heads: JSON, .npy, or text with heads such as 12.3", f"{text!r} ({error})", "Check the file."
        ) from error
    if isinstance(content, dict) and "heads" in content and "origin" in content:
        return _written(content, path)
    sites = sorted(set(_heads_in(content)))
    if not sites:
        raise UserError(
            'heads as "9.6", "a9.h6" or "blocks.9.attn.hook_z[6]" somewhere in the file',
            f"{text!r} without any",
            "Check the file.",
        )
    return Claim(path.stem, Location.of(sites), "given", about={"file": path.name})


def _written(content: dict[str, Any], path: Path) -> Claim:
    """A claim that locus wrote."""
    return Claim(
        str(content.get("name", path.stem)),
        Location.parse(content["heads"]),
        str(content["origin"]),
        {str(head): float(score) for head, score in content.get("scores", {}).items()},
        dict(content.get("about", {})) | {"file": path.name},
    )


def _patched(folder: str) -> Claim:
    """The heads that a patching run found."""
    path = Path(folder) / "patch.json"
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        claim, tested = content["claim"], content["maps"][0]
        site, count = tested["site"], len(tested["components"])
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            "patch:DIR with the folder of a finished `locus patch` run",
            f"{folder!r} ({error!r})",
            "Check the path; a run that was stopped goes on with the same command.",
        ) from error
    if claim is None:
        raise UserError(
            "a patching run that found at least one head",
            f"{folder!r}, whose first map is of {site} and finds " + ("no head" if site == "head" else "no head by kind"),
            'Patch heads first (--set sites=["head"]), with more examples or a smaller least effect.'
            if site != "head"
            else f"None of {count} stands out: use more --pairs, a smaller --set least=, or another task.",
        )
    return _written(claim, path)


def _heads_in(value: Any) -> list[Site]:
    """Every head named anywhere in a JSON value: in lists, or as a key whose value is not false."""
    if isinstance(value, str):
        found = next((match for pattern in NAMES if (match := pattern.match(value))), None)
        return [Site(int(found[1]), int(found[2]))] if found else []
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(part, int) for part in value):
            return [Site(*value)]
        return [site for part in value for site in _heads_in(part)]
    if isinstance(value, dict):
        keys = [site for key, kept in value.items() if kept not in (False, None, 0) for site in _heads_in(key)]
        return keys + [site for part in value.values() if isinstance(part, list | dict) for site in _heads_in(part)]
    return []


def _from_npy(path: Path) -> Location:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            "a .npy array of (layer, head) rows, not pickled", f"{path} ({error})", "Save it as plain integers."
        ) from error
    if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(
            "a .npy of whole numbers with shape [heads, 2]", f"{path} with {array.dtype} {array.shape}", "Reshape it."
        )
    return Location.of(Site(int(layer), int(head)) for layer, head in array)
