"""Everywhere but there: full alignment with b zero on the claim, by which necessity is judged."""

from typing import Any

from locus.edits.kind import EditKind, Place
from locus.edits.rank1 import Rank1, Read
from locus.models.layout import Layout
from locus.sites.site import Location


def complement(layout: Layout, claim: Location, read: Read = "layer", seed: int = 0) -> Rank1:
    """The trainable edit of all heads that are not in the claim; with read = layer it may still read the claim."""
    others = claim.complement(layout.heads)
    return Rank1(layout, others, read=read, seed=seed, kind="complement")


def _make(place: Place) -> Rank1:
    read: Any = place.read
    # The place is what may be written: all the rest.
    claim = place.location.complement(place.layout.heads)
    return complement(place.layout, claim, read, place.seed)


KIND = EditKind("complement", _make, trained=True, anywhere=False, searched=True)
