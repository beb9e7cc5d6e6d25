"""An attention head: its slice of the attention's output projection's input. Heads are *query* heads, also under GQA."""

from collections.abc import Mapping
from typing import Any

from locus.sites.kind import SiteKind


def columns(sizes: Any, layer: int, index: int) -> slice:
    """What a head says, among what all heads of its layer say."""
    width = sizes.width("z", layer) // sizes.heads[layer]
    return slice(index * width, (index + 1) * width)


def foreseen(sizes: Mapping[str, int | None]) -> tuple[int, ...] | None:
    """As many heads in each layer, as far as a configuration says so."""
    layers, heads = sizes.get("layers"), sizes.get("heads")
    return (heads,) * layers if layers and heads else None


KIND = SiteKind(
    name="head",
    noun="head",
    nouns="heads",
    notations=("{}.{}", "L{}H{}", "a{}.h{}", "blocks.{}.attn.hook_z[{}]", "blocks.{}.attn.hook_result[{}]"),
    point="z",
    counts=lambda sizes: sizes.heads,
    columns=columns,
    foreseen=foreseen,
    calibrated=True,
    filed="heads",
)
