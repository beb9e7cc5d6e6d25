"""A toy kind of site: one half of what an attention head says."""

from locus.sites import SiteKind

HALF = SiteKind(
    name="half",
    noun="half of a head",
    nouns="halves of heads",
    notations=("half.{}.{}",),
    point="z",
    counts=lambda sizes: tuple(2 * heads for heads in sizes.heads),
    columns=lambda sizes, layer, index: slice(index * _width(sizes, layer), (index + 1) * _width(sizes, layer)),
    calibrated=True,
)


def _width(sizes, layer):
    return sizes.width("z", layer) // (2 * sizes.heads[layer])
