"""Full alignment: a rank-1 edit in every layer, the ceiling a localized edit is held against.

Source: Wang & Veitch 2025, section 4. They do not say whether the full edit was written as W b or as a free vector; W b loses
nothing only where W has full row rank, and it changes the geometry Adam sees. Both are here, and the form is on record.
"""

from locus.edits.kind import EditKind, Place
from locus.edits.rank1 import Rank1, Rank1Form
from locus.models.layout import Layout
from locus.sites.kind import SiteKind, default
from locus.sites.space import SiteSpace


def full(layout: Layout, form: Rank1Form = "heads", seed: int = 0, kind: SiteKind | str | None = None) -> Rank1:
    """The trainable edit of all sites of all layers.

    Args:
        layout: of the model.
        form: written at the sites, or freely behind their map.
        seed: of the start.
        kind: of the sites; heads by default.
    """
    everywhere = SiteSpace.of(kind or default(), layout).everywhere
    return Rank1(layout, everywhere, read="layer", form=form, seed=seed, kind="full")


def _make(place: Place) -> Rank1:
    form: Rank1Form = "free" if place.form == "free" else "heads"
    return Rank1(place.layout, place.location, read="layer", form=form, seed=place.seed, rank=place.rank, kind="full")


KIND = EditKind("full", _make, trained=True, anywhere=False, searched=True)
