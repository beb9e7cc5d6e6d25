"""Controls on the heads that patching found: all of them together, against random sets of as many and against all others.

Heads are found one by one. Together they may do more than each promised, or undo one another; and any so many heads, moved
together, do something. The random sets say how much, and the complement how much is left for everything that was not found.
The sets are patched into the examples in which the heads were found.
"""

import numpy as np

from locus.models.layout import Layout
from locus.patching.component import Component, Patch
from locus.patching.metrics import Array
from locus.records.patch import Controls
from locus.sites.site import Location
from locus.sites.space import Match, SiteSpace
from locus.stats import monte_carlo_rank
from locus.stats.estimate import Estimate
from locus.stats.paired import t_interval


def sets(location: Location, layout: Layout, count: int, seed: int) -> tuple[list[Patch], Match] | None:
    """The heads together, all others together, and random sets of as many heads.

    Random sets keep the number of heads in every layer where so many sets exist, and are drawn over the whole model else.

    Args:
        location: the heads.
        layout: of the model.
        count: of random sets; fewer where the model has fewer.
        seed: of the draws.

    Returns:
        The patches in that order, and what the sets share with the heads; None where there is no other head.
    """
    space = SiteSpace.of("head", layout)
    others = space.rest(location)
    if not others.sites:
        return None
    match: Match = "layer" if space.capacity(location, "layer") >= count else "uniform"
    places = [location, others, *space.draw(location, count, seed, match)]
    return [tuple(Component("head", site.layer, site.index) for site in place.sites) for place in places], match


def compared(effects: Array, size: int, match: Match, level: float) -> Controls:
    """What the sets do.

    Args:
        effects: [sets, examples], in the order of `sets`.
        size: heads in each set.
        match: what the random sets share with the heads.
        level: of the intervals.

    Returns:
        Effects of the heads together and of all others, means of the random sets, and the rank of the heads among these.
    """
    joint, complement = (t_interval(row, level) for row in effects[:2])
    random = effects[2:].mean(axis=1)
    p = monte_carlo_rank(abs(joint.value), np.abs(random)).p
    where = "in the same layers" if match == "layer" else "anywhere"
    head = "head" if size == 1 else "heads"
    sentence = (
        f"Patched together, the {size} {head} of the claim have an effect of {_with_interval(joint)}, all other heads together "
        f"{_with_interval(complement)}, and {len(random)} random sets of {size} {head} {where} {random.min():+.2f} to "
        f"{random.max():+.2f} (rank p {p:.3f})."
    )
    return Controls(
        joint=(joint.value, joint.low, joint.high),
        complement=(complement.value, complement.low, complement.high),
        random=tuple(random.tolist()),
        p=p,
        match=match,
        sentence=sentence,
    )


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} ({estimate.low:+.2f} to {estimate.high:+.2f})"
