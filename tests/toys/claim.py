"""A toy heuristic: the heads with the largest spread along their class-mean directions."""

import numpy as np

from locus.claims import Claim
from locus.claims.heuristic import Evidence
from locus.sites.site import Location, Site


def loudest(evidence: Evidence) -> Claim:
    """As many sites as are asked for."""
    sigma = evidence.directions.sigma
    order = np.argsort(-sigma, axis=None)[: evidence.size]
    sites = [Site(evidence.space.kind.name, *map(int, np.unravel_index(one, sigma.shape))) for one in order]
    return Claim("loudest", Location.of(sites), "loudest", about={"n_train": len(evidence.train.items)})
