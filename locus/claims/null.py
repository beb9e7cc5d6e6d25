"""Random Locations of the same size: what a claim has to be better than. The same type, on the same path.

`uniform` draws heads uniformly over the model, as the paper does; `layer` keeps the claim's number of heads in every layer.
"""

from typing import Literal

import numpy as np

from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites.site import Location, Site

Match = Literal["uniform", "layer"]


def draw_locations(
    location: Location, n_layers: int, n_heads: int, count: int, seed: int, match: Match = "uniform"
) -> list[Claim]:
    """Random Locations of the claim's size, none repeated, none equal to the claim; the first k do not depend on `count`.

    Args:
        location: the claim's heads.
        n_layers: of the model.
        n_heads: query heads a layer.
        count: how many.
        seed: of the draws.
        match: what they share with the claim besides the size.

    Raises:
        UserError: if the model has fewer such Locations.
    """
    possible = capacity(location, n_layers, n_heads, match)
    if count > possible:
        raise UserError(
            f"at most {possible:.0f} random Locations of {len(location)} head(s) "
            f"({match} over {n_layers} layers of {n_heads} heads, the claim's own left out)",
            str(count),
            "Ask for fewer, or for a claim of more heads.",
        )
    generator = np.random.default_rng([seed, len(location), 0 if match == "uniform" else 1])
    locations: dict[Location, None] = {}
    while len(locations) < count:
        if match == "uniform":
            picks = generator.choice(n_layers * n_heads, size=len(location), replace=False)
            candidate = Location.of(Site(int(pick) // n_heads, int(pick) % n_heads) for pick in picks)
        else:
            candidate = Location.of(
                Site(layer, int(head))
                for layer in location.layers
                for head in generator.choice(n_heads, size=len(location.heads(layer)), replace=False)
            )
        if candidate != location:
            locations.setdefault(candidate)
    return [
        Claim(f"random-{number:02d}", place, "null", about={"seed": seed, "match": match})
        for number, place in enumerate(locations)
    ]


def capacity(location: Location, n_layers: int, n_heads: int, match: Match) -> float:
    """How many Locations other than the claim itself can be drawn."""
    from math import comb, prod

    if match == "uniform":
        return comb(n_layers * n_heads, len(location)) - 1
    return prod(comb(n_heads, len(location.heads(layer))) for layer in location.layers) - 1
