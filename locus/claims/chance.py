"""Sites drawn at random, as a claim: a negative control, which is special as often as chance allows.

The draw has a stream of its own, so that it is none of the random Locations that it is held against. An audit may have several:
`random:2` is the second draw of that stream that differs from the first, and so on.
"""

from math import comb
from typing import Any

import numpy as np

from locus.claims.claim import Claim
from locus.errors import UserError
from locus.sites.site import Location

STREAM = 2  # random Locations draw from 0 and 1


def heuristic(evidence: Any) -> Claim:
    """The claim of the heuristic `random`, or `random:N`, from what a `heuristic.Evidence` holds.

    Raises:
        UserError: if there are not so many different places.
    """
    sites, number = evidence.space.everywhere.sites, int(evidence.part or 1)
    size = min(evidence.size, len(sites))
    if number > (there := comb(len(sites), size)):
        raise UserError(f"random:N for one of the {there} places of {size} sites", f"random:{number}", "Claim fewer of them.")
    generator = np.random.default_rng([evidence.seed, size, STREAM])
    drawn: dict[Location, None] = {}
    while len(drawn) < number:
        picks = generator.choice(len(sites), size=size, replace=False)
        drawn.setdefault(Location.of(sites[int(pick)] for pick in picks))
    return Claim("random", list(drawn)[-1], "random", about={"seed": evidence.seed, **({"draw": number} if number > 1 else {})})
