"""A direction of the residual stream as it enters a layer: one vector, along which alone an edit may write.

A direction has no place among others that could be counted. It is known by its content, or by how it is drawn (`known.py`):
behind `direction.12.` stand twelve hexadecimal digits, and what they stand for is found in a `Book` (`locus.claims.book`).
"""

from locus.sites.kind import SiteKind, one_a_layer, whole, whole_columns
from locus.sites.known import WAYS

KIND = SiteKind(
    name="direction",
    noun="direction",
    nouns="directions",
    notations=("direction.{}.{:012x}",),
    point="resid_pre",
    counts=whole("resid_pre"),
    columns=whole_columns,
    foreseen=one_a_layer,
    written="along",
    around="off-direction",
    nulls=WAYS,
    by_name=False,
)
