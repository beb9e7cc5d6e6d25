"""An attention module as a whole: what it adds to the residual stream."""

from locus.sites.kind import SiteKind, one_a_layer, whole, whole_columns

KIND = SiteKind(
    name="attn",
    noun="attention module",
    nouns="attention modules",
    notations=("attn.{}", "blocks.{}.hook_attn_out"),
    point="attn_out",
    counts=whole("attn_out"),
    columns=whole_columns,
    foreseen=one_a_layer,
    calibrated=True,
)
