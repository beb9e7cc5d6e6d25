"""Two kinds of random Locations side by side: uniform ones, by which the verdict is, and as many of the claim's layers.

Whichever heads are claimed, the layers that they lie in may be where edits work best. Random Locations with as many heads in each
layer as the claim share its layers, so a lead over them is the heads' own.

Source: the best layer is much the same whatever is asked, arXiv 2602.20207 (Golden Layers), so both are shown.
"""

from locus import units
from locus.records.findings import ClaimVerdict, Finding
from locus.sites.kind import kind_of


def rank(finding: Finding) -> str:
    """The claim's place among itself and the random Locations that it was held against, such as "1 of 20"; "" if unknown."""
    if finding.reached is None or not finding.n_random:
        return ""
    return f"{1 + finding.reached:.0f} of {1 + finding.n_random}"


def compared(claim: ClaimVerdict, metric: str) -> str:
    """What random Locations of the claim's layers say beside uniform ones, and where the two differ; "" without them.

    Args:
        claim: one of the verdict's claims.
        metric: the main metric.
    """
    if claim.special_by:
        ways = (f"{way}{_stands(finding, metric)}" for way, finding in claim.special_by.items())
        return f"By one way of drawing random {kind_of(claim.kind).nouns} alone: {', '.join(ways)}."
    one, other = claim.special, claim.special_in_layers
    if other is None:
        return ""
    if "invalid" in (one.standing, other.standing):
        if one.standing == other.standing:
            return "Random Locations of the claim's layers leave it unanswered whether it is special, as uniform ones do."
        return f"The two nulls differ: special is {one.standing} by uniform ones, and {other.standing} by those of its layers."
    uniform, layered = (_stands(finding, metric) for finding in (one, other))
    if one.standing == other.standing:
        said = f"Both nulls say the same: special is {one.standing}, by uniform random Locations{uniform} and by those of the"
        return f"{said} claim's layers{layered}. {_ahead(one, other, metric)}".rstrip()
    said = f"The two nulls differ: by uniform random Locations special is {one.standing}{uniform}, by those of the claim's layers"
    return f"{said} it is {other.standing}{layered}. {_ahead(one, other, metric)}".rstrip()


def _stands(finding: Finding, metric: str) -> str:
    """Lead and rank, in brackets."""
    place = rank(finding)
    lead = units.difference(finding.estimate, metric, margin=finding.margin)
    return f" (lead {lead}{f', rank {place}' if place else ''})"


def _ahead(one: Finding, other: Finding, metric: str) -> str:
    """How much of the lead over uniform random Locations is that of the claim's layers."""
    if one.estimate is None or other.estimate is None:
        return ""
    by = units.difference(one.estimate - other.estimate, metric, margin=one.margin)
    return f"Random Locations of its layers are at {by} from uniform ones: that much of the lead is its layers'."
