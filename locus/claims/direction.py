"""Claims of directions: a vector of a file at a layer, at several, or at all; or the difference of class means.

    FILE.npy@12                     a vector of [d_model], at the stream entering layer 12
    FILE.safetensors:KEY@12-15      one of several tensors, at layers 12 to 15
    sae:FOLDER#123                  a decoder row, where its hook says; likewise other files that say where their vectors act
    means@12, means@all             wanted answers' mean less unwanted ones', of the audit's training and validation questions

A vector is taken to unit length: what is claimed is a direction, and how far it is gone is learned. It lies in the claim itself.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locus.boundary.notices import notice
from locus.claims.claim import Claim
from locus.claims.importers.source import Source
from locus.errors import UserError
from locus.sites.kind import along
from locus.sites.known import MEANS, index_of
from locus.sites.names import NUMBER
from locus.sites.site import Location, Site

AT = re.compile(rf"(?P<source>.+)@(?:(?P<all>all)|{NUMBER}(?:-{NUMBER})?)", re.DOTALL)
MEANT = "means"
VECTORS, ALL = "vectors", "all_layers"  # keys of a claim's `about`
WIDEST = 1 << 17
WHAT = "a direction: a vector of one finite number for each dimension of the stream, not all zero"
Vector = npt.NDArray[np.float32]


class NotUnit(UserWarning):
    """A direction's vector was taken to unit length."""


def placed(text: str) -> tuple[str, tuple[int, ...] | None] | None:
    """What stands before an `@`, and the layers behind it, None for all; None where there is no such end.

    Raises:
        UserError: if the layers run backwards.
    """
    match = AT.fullmatch(text)
    if match is None:
        return None
    if match["all"]:
        return match["source"], None
    first, last = int(match[3]), int(match[4] or match[3])
    if last < first:
        raise UserError("layers that go up, as @12-15", f"@{first}-{last}", "Say the lower one first.")
    return match["source"], tuple(range(first, last + 1))


def unit(vector: Any, label: str) -> Vector:
    """A vector as a direction.

    Raises:
        UserError: if it is none.
    """
    array = np.asarray(vector)
    plain = array.reshape(-1) if array.ndim and max(array.shape, default=0) == array.size else array
    if plain.ndim != 1 or not 1 < plain.size <= WIDEST or plain.dtype.kind not in "fiu":
        shape, remedy = list(array.shape), "Save one vector; of a matrix, choose a row."
        raise UserError(WHAT, f"{label} of shape {shape}, {array.dtype}", remedy)
    wide = plain.astype(np.float64)
    if not np.isfinite(wide).all():
        bad = int((~np.isfinite(wide)).sum())
        raise UserError(WHAT, f"{label} with {bad} numbers that are not finite", "Save it anew.")
    length = float(np.linalg.norm(wide))
    if not length > 0:
        raise UserError(WHAT, f"{label} of norm zero", "Save another.")
    if abs(length - 1) > 1e-3:
        notice(f"{label} has norm {length:.4g} and was taken to unit length: how far to go along it is learned", NotUnit)
    found: Vector = (wide / length).astype(np.float32)
    return found


def claim_of(found: Sequence[tuple[int, Vector]], name: str, about: Mapping[str, Any], everywhere: bool = False) -> Claim:
    """A claim of directions by layer, one a layer; with their vectors in it.

    Args:
        found: layers and unit vectors.
        name: what tables call it.
        about: for plan and receipt.
        everywhere: whether the one vector is meant at all layers, which are known where the model is.

    Raises:
        UserError: if vectors differ in width, or a layer has two.
    """
    widths = sorted({len(vector) for _, vector in found})
    layers = [layer for layer, _ in found]
    if len(widths) != 1 or len(set(layers)) < len(layers):
        received = f"vectors of widths {widths[:4]}" if len(widths) != 1 else f"two at layer {max(layers, key=layers.count)}"
        raise UserError("one direction a layer, all of one width", received, "Claim each by itself.")
    held = {f"{index_of(vector):012x}": base64.b64encode(vector.astype("<f4").tobytes()).decode() for _, vector in found}
    sites = [Site(along().name, layer, index_of(vector)) for layer, vector in found]
    more = {VECTORS: held, **({ALL: True} if everywhere else {})}
    return Claim(name, Location.of(sites), "given", about={**about, **more})


def means(layers: Sequence[int] | None) -> Claim:
    """The claim that the difference of class means is the direction."""
    location = Location(tuple(Site(along().name, layer, MEANS) for layer in (layers or (0,))))
    return Claim(MEANT, location, MEANT, about={} if layers else {ALL: True})


def read(source: Source, key: str, layers: Sequence[int] | None) -> Claim:
    """The vector of an array file, or a tensor of a safetensors file, at some layers; None for all.

    Raises:
        UserError: if there is no such vector.
    """
    label = repr(source.path.name)
    if source.kind == "safetensors":
        there = source.tensors().shapes
        if not key and len(there) == 1:
            key = next(iter(there))
        if key not in there:
            listed = ", ".join(sorted(there)[:5])
            raise UserError(
                "a tensor of the file, as FILE.safetensors:KEY@12", f"{key[:80]!r} of {label} ({listed})", "Name one."
            )
        vector, label = unit(source.tensors().read(key), f"{key[:80]!r} of {label}"), f"{key[:80]!r} of {label}"
    elif source.array is not None:
        vector = unit(source.array, label)
    else:
        raise UserError("a .npy or .safetensors with a vector", label, "docs/claims.md lists every form that a claim may have.")
    about = {"file": source.path.name, "sha256": source.sha256, **({"tensor": key[:80]} if key else {})}
    return claim_of([(layer, vector) for layer in (layers or (0,))], Path(source.path).stem, about, everywhere=layers is None)


def over(claim: Claim, layers: Sequence[int]) -> Claim:
    """A claim whose direction is meant at all layers, at these."""
    if not claim.about.get(ALL):
        return claim
    (site,) = claim.location.sites
    location = Location(tuple(Site(site.kind, layer, site.index) for layer in layers))
    about = {name: value for name, value in claim.about.items() if name != ALL}
    return Claim(claim.name, location, claim.origin, claim.scores, about)


def vectors_of(claims: Sequence[Claim], width: int | None = None) -> dict[int, Vector]:
    """The vectors that claims hold, by what they are known by.

    Args:
        claims: of any kind.
        width: of the model's stream, if it is known.

    Raises:
        UserError: if one is not what it is known by, or of another width.
    """
    found: dict[int, Vector] = {}
    for claim in claims:
        held = claim.about.get(VECTORS, {})
        if not isinstance(held, dict):
            raise UserError("a claim's vectors by name", repr(held)[:60], "Claim them anew from their file.")
        for name, text in held.items():
            try:
                vector = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
                index = int(name, 16)
            except (ValueError, TypeError) as error:
                raise UserError(
                    "a claim's vectors as locus writes them", f"{name[:20]!r}: {error!s:.80}", "Claim anew."
                ) from error
            if not np.isfinite(vector).all() or index_of(vector) != index:
                raise UserError("a direction known by its content", f"{name[:20]!r}, of other content", "Claim anew.")
            if width is not None and len(vector) != width:
                received = f"{claim.name!r}, of width {len(vector)}"
                raise UserError(f"a direction of the model's width, {width}", received, "Claim one that is of this model.")
            found[index] = vector
    return found
