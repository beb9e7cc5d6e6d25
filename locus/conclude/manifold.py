"""Whether a claim's edit takes activations further from where the unedited model's lie than the edit everywhere does."""

import numpy as np

from locus import stats, units
from locus.conclude.record import Record
from locus.conclude.scores import ceiling_of
from locus.records.beside import Departure

OFF = "off_manifold"


def departures(record: Record) -> tuple[Departure, ...]:
    """Each claim's edit beside the ceiling's, by the share of answer tokens off the manifold; none where not measured."""
    ceiling, found = ceiling_of(record), []
    if ceiling is None or not record.config.off_manifold:
        return ()
    theirs = record.of(ceiling, OFF).mean(axis=0)
    for read in record.config.reads:
        for claim in record.plan.claims:
            for arm in record.find("claim", claim.name, read):
                ours = record.of(arm, OFF).mean(axis=0)
                if not np.isfinite(ours - theirs).any():
                    continue
                more = stats.bootstrap_mean(ours - theirs, groups=record.groups, draws=2000)
                ends = (_known(more.low), _known(more.high))
                values = {"claim": float(np.nanmean(ours)), "ceiling": float(np.nanmean(theirs)), "more": float(more.value)}
                found.append(Departure(name=claim.name, read=read, **values, interval=ends))
    return tuple(found)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def noted(departure: Departure) -> str:
    """A warning where the claim's edit is shown to leave the manifold more than the ceiling's; "" where it is not."""
    low, high = departure.interval
    if low is None or high is None or low <= 0:
        return ""
    claim, ceiling = (units.amount(float(one), OFF) for one in (departure.claim, departure.ceiling))
    ends = " to ".join(units.difference(end, OFF, unit=False) for end in (low, high))
    return (
        f"The claim's edit leaves the unedited model's activations more than the edit everywhere does: {claim} of answer tokens "
        f"are predicted from beyond 99 % of these, {ceiling} under the ceiling (95 % interval of the difference {ends} points). "
        "It may work through what the model does not use by itself."
    )
