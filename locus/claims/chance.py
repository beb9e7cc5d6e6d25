"""Sites drawn at random, as a claim: a negative control, which is special as often as chance allows.

The draw has a stream of its own, so that it is none of the random Locations that it is held against.
"""

from typing import Any

import numpy as np

from locus.claims.claim import Claim
from locus.sites.site import Location

STREAM = 2  # random Locations draw from 0 and 1


def heuristic(evidence: Any) -> Claim:
    """The claim of the heuristic `random`, from what a `heuristic.Evidence` holds."""
    sites = evidence.space.everywhere.sites
    size = min(evidence.size, len(sites))
    picks = np.random.default_rng([evidence.seed, size, STREAM]).choice(len(sites), size=size, replace=False)
    return Claim("random", Location.of(sites[int(pick)] for pick in picks), "random", about={"seed": evidence.seed})
