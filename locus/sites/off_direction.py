"""All of the residual stream entering a layer but one direction, or all of it: ceiling and complement of a claimed direction.

An edit of the stream writes <a, r> + c times a vector of its own, so that it can do whatever one along a direction can do.
"""

from locus.sites.kind import SiteKind, one_a_layer, whole, whole_columns

KIND = SiteKind(
    name="off-direction",
    noun="stream off a direction",
    nouns="streams off a direction",
    notations=("off-direction.{}.{:012x}",),
    point="resid_pre",
    counts=whole("resid_pre"),
    columns=whole_columns,
    foreseen=one_a_layer,
    written="off",
    by_name=False,
)
