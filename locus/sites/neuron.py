"""A neuron: one entry of the MLP's down projection's input, what is left of the MLP's hidden layer after its non-linearity."""

from collections.abc import Mapping

from locus.sites.kind import SiteKind


def foreseen(sizes: Mapping[str, int | None]) -> tuple[int, ...] | None:
    """As many neurons in each layer, as far as a configuration says so."""
    layers, neurons = sizes.get("layers"), sizes.get("inner width")
    return (neurons,) * layers if layers and neurons else None


KIND = SiteKind(
    name="neuron",
    noun="neuron",
    nouns="neurons",
    notations=("n{}.{}", "L{}N{}", "blocks.{}.mlp.hook_post[{}]"),
    point="post",
    counts=lambda sizes: tuple(sizes.width("post", layer) for layer in range(sizes.n_layers)),
    columns=lambda sizes, layer, index: slice(index, index + 1),
    foreseen=foreseen,
    runs=True,
    calibrated=True,
)
