"""Everywhere but there: full alignment with b zero on the claim, by which necessity is judged."""

from typing import Any

from locus.edits.kind import EditKind, Place
from locus.edits.rank1 import Rank1, Read
from locus.models.layout import Layout
from locus.sites.site import Location
from locus.sites.space import SiteSpace


def complement(layout: Layout, claim: Location, read: Read = "layer", seed: int = 0) -> Rank1:
    """The trainable edit of all sites that are not in the claim; with read = layer it may still read the claim."""
    others = SiteSpace.of(claim.kind, layout).rest(claim)
    return Rank1(layout, others, read=read, seed=seed, kind="complement")


def _make(place: Place) -> Rank1:
    read: Any = place.read
    # The place is what may be written: all the rest.
    return Rank1(place.layout, place.location, read=read, seed=place.seed, rank=place.rank, kind="complement")


KIND = EditKind("complement", _make, trained=True, anywhere=False, searched=True)
