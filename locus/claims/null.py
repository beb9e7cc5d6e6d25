"""Random Locations of the same size: what a claim has to be better than. The same type, on the same path.

`uniform` draws sites uniformly over the model, as the paper does; `layer` keeps the claim's number of sites in every layer.
"""

from locus.claims.claim import Claim
from locus.sites.site import Location
from locus.sites.space import Match, SiteSpace


def draw_locations(
    location: Location, space: SiteSpace, count: int, seed: int, match: Match = "uniform", name: str = "random"
) -> list[Claim]:
    """Random Locations of the claim's size, as a space draws them, as claims.

    Args:
        location: the claim's sites.
        space: of their kind, in the model.
        count: how many; all that there are where there are fewer.
        seed: of the draws.
        match: what they share with the claim besides the size.
        name: what they are called, with their number.
    """
    return [
        Claim(f"{name}-{number:02d}", place, "null", about={"seed": seed, "match": match})
        for number, place in enumerate(space.draw(location, count, seed, match))
    ]
