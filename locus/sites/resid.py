"""The residual stream as it enters a layer. A later layer's carries what an earlier one's held: places are not apart."""

from locus.sites.kind import SiteKind, one_a_layer, whole, whole_columns

KIND = SiteKind(
    name="resid",
    noun="residual stream",
    nouns="residual streams",
    notations=("resid.{}", "blocks.{}.hook_resid_pre"),
    point="resid_pre",
    counts=whole("resid_pre"),
    columns=whole_columns,
    foreseen=one_a_layer,
    calibrated=True,
)
