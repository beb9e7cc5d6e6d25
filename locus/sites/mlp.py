"""An MLP as a whole: what it adds to the residual stream, all experts together where there are several."""

from locus.sites.kind import SiteKind, one_a_layer, whole, whole_columns

KIND = SiteKind(
    name="mlp",
    noun="MLP",
    nouns="MLPs",
    notations=("mlp.{}", "blocks.{}.hook_mlp_out"),
    point="mlp_out",
    counts=whole("mlp_out"),
    columns=whole_columns,
    foreseen=one_a_layer,
    calibrated=True,
)
