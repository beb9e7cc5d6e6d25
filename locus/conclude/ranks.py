"""Whether what edits of rank 1 find, edits of a higher rank find too: the same searches with more pairs of reading and writing.

An edit of rank 1 may miss what takes several directions. So the claim, its random Locations, the ceiling and the complement are
searched for again by edits of each higher rank, and the same rule is asked. It stands beside the verdict and decides nothing.

Every edit of a rank is one of a higher rank, so no search of the latter may end above that of the former in training loss.
"""

from collections.abc import Sequence

import numpy as np

from locus import units
from locus.conclude import nested
from locus.conclude.nulls import rank as place_of
from locus.conclude.record import Record
from locus.conclude.rule import Verdicts
from locus.conclude.scores import least_share
from locus.conclude.transfer import gains
from locus.records.beside import CurveClaim, Nested, Ranked
from locus.records.findings import ClaimVerdict, Finding

ROLES = ("claim", "random", "ceiling", "complement")


def ranked(away: Record, concluded: Sequence[Verdicts | None]) -> Ranked | None:
    """What follows by edits of one higher rank; None while trials are missing.

    Args:
        away: the run's scores by edits of that rank.
        concluded: the findings by the main metric, in each read mode.
    """
    claims = []
    for read, one in zip(away.config.reads, concluded, strict=True):
        if one is None:
            return None
        for claim, found in zip(away.plan.claims, one.findings, strict=True):
            claims.append(CurveClaim(name=claim.name, read=read, works=found.works, special=found.special))
    gained = gains(away, away.config.metric)
    return Ranked(rank=away.rank, gain=gained, share=_shares(away), nested=_nested(away), claims=tuple(claims))


def _shares(away: Record) -> dict[str, int | float | None]:
    """By role, the mean share of all that could be gained in training loss that searches gained."""
    by_role = {role: [least_share(trial) for arm in away.find(role) for trial in arm.ends] for role in ROLES}
    known = {role: [share for share in shares if share is not None] for role, shares in by_role.items()}
    return {role: float(np.mean(shares)) for role, shares in known.items() if shares}


def _nested(away: Record) -> Nested:
    """Searches held against those of places inside them, and each against that of a lower rank at its place."""
    inside = nested.nesting(away)
    compared, most, beaten = (0, 0.0, dict[str, str]()) if inside is None else (inside.compared, inside.most, dict(inside.beaten))
    for arm in away.arms:
        for trial in (one for one in arm.ends if one.fit.loss is not None and one.fit.start):
            begun = [away.done[start] for start in trial.spec.starts if start in away.done]
            for one in (one for one in begun if one.spec.rank < away.rank and one.fit.loss is not None):
                excess = max(0.0, float(trial.fit.loss or 0) - float(one.fit.loss or 0)) / float(trial.fit.start or 1)
                compared, most = compared + 1, max(most, excess)
                if excess > nested.NOISE:
                    beaten.setdefault(nested.label(arm), one.arm)
    return Nested(compared=compared, violated=len(beaten), most=most, beaten=beaten)


def told(ranks: Sequence[Ranked], claim: ClaimVerdict, metric: str) -> str:
    """Whether a claim's *special* survives edits of higher ranks, in a sentence; "" where none were searched for.

    Args:
        ranks: what they find.
        claim: one of the verdict's claims.
        metric: the main metric.
    """
    found = {one.rank: mine.special for one in ranks for mine in one.claims if (mine.name, mine.read) == (claim.name, claim.read)}
    if not found:
        return ""
    by_standing: dict[str, list[int]] = {}
    for rank, finding in found.items():
        by_standing.setdefault(finding.standing, []).append(rank)
    here, parts = claim.special.standing, []
    if here == "supported" and (kept := by_standing.pop("supported", [])):
        parts.append(f"special survives edits of {_listed(kept)}{_stand([found[rank] for rank in kept], metric)}")
    elif here == "supported":
        parts.append("special does not survive edits of a higher rank")
    else:
        parts.append(f"special is {here} by edits of rank 1")
    parts += [
        f"by edits of {_listed(several)} it is {standing}{_stand([found[rank] for rank in several], metric)}"
        for standing, several in by_standing.items()
    ]
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _listed(ranks: Sequence[int]) -> str:
    """Ranks as a reader would list them: "rank 4", "rank 4 and 16"."""
    *most, last = map(str, ranks)
    return f"rank {', '.join(most)} and {last}" if most else f"rank {last}"


def _stand(found: Sequence[Finding], metric: str) -> str:
    """Lead and place of each, in brackets; nothing where it could not be asked."""
    stands = []
    for one in (one for one in found if one.standing != "invalid" and one.estimate is not None):
        place = place_of(one)
        stands.append(f"{units.difference(one.estimate, metric, margin=one.margin)}{f', place {place}' if place else ''}")
    return f" (lead {'; '.join(stands)})" if stands else ""
