"""Everywhere but there: full alignment with b zero on the claim, by which necessity is judged."""

from locus.edits.rank1 import Rank1, Read
from locus.models.layout import Layout
from locus.sites.site import Location


def complement(layout: Layout, claim: Location, read: Read = "layer", seed: int = 0) -> Rank1:
    """The trainable edit of all heads that are not in the claim; with read = layer it may still read the claim."""
    others = claim.complement(layout.n_layers, layout.n_heads)
    return Rank1(layout, others, read=read, seed=seed, kind="complement")
