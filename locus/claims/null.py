"""Random Locations of the same size: what a claim has to be better than. The same type, on the same path.

`uniform` draws heads uniformly over the model, as the paper does; `layer` keeps the claim's number of heads in every layer.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites.site import Location, Site

Match = Literal["uniform", "layer"]


def draw_locations(
    location: Location, heads: Sequence[int], count: int, seed: int, match: Match = "uniform", name: str = "random"
) -> list[Claim]:
    """Random Locations of the claim's size, none repeated, none equal to the claim; the first k do not depend on `count`.

    Args:
        location: the claim's heads.
        heads: query heads of each layer.
        count: how many.
        seed: of the draws.
        match: what they share with the claim besides the size.
        name: what they are called, with their number.

    Raises:
        UserError: if the model has fewer such Locations.
    """
    possible = capacity(location, heads, match)
    if count > possible:
        raise UserError(
            f"at most {possible:.0f} random Locations of {len(location)} head(s) "
            f"({match} over {_sizes(heads)}, the claim's own left out)",
            str(count),
            "Ask for fewer, or for a claim of more heads.",
        )
    sites = Location.everything(heads).sites
    generator = np.random.default_rng([seed, len(location), 0 if match == "uniform" else 1])
    locations: dict[Location, None] = {}
    while len(locations) < count:
        if match == "uniform":
            picks = generator.choice(len(sites), size=len(location), replace=False)
            candidate = Location.of(sites[int(pick)] for pick in picks)
        else:
            candidate = Location.of(
                Site(layer, int(head))
                for layer in location.layers
                for head in generator.choice(heads[layer], size=len(location.heads(layer)), replace=False)
            )
        if candidate != location:
            locations.setdefault(candidate)
    return [
        Claim(f"{name}-{number:02d}", place, "null", about={"seed": seed, "match": match})
        for number, place in enumerate(locations)
    ]


def _sizes(heads: Sequence[int]) -> str:
    alike = f"{len(heads)} layers of {heads[0]} heads"
    return alike if len(set(heads)) == 1 else f"{sum(heads)} heads in {sum(map(bool, heads))} of {len(heads)} layers"


def capacity(location: Location, heads: Sequence[int], match: Match) -> float:
    """How many Locations other than the claim itself can be drawn."""
    from math import comb, prod

    if match == "uniform":
        return comb(sum(heads), len(location)) - 1
    return prod(comb(heads[layer], len(location.heads(layer))) for layer in location.layers) - 1
