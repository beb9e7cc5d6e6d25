"""What edits that were trained on one behaviour do to others: nothing is trained, chosen or decided by these.

Where the claim's edit moves another behaviour more than edits of like size at random Locations do, the claimed place serves
that one too, or what was trained is more than the behaviour that was asked about. An interval is one of many, uncorrected.
"""

import numpy as np
import numpy.typing as npt

from locus import stats, units
from locus.conclude.record import Arm, Record
from locus.conclude.scores import ceiling_of
from locus.metrics.base import metric
from locus.records.beside import Moved, MovedClaim
from locus.records.place import Measured
from locus.records.plan import asked_of
from locus.shown import visible
from locus.stats.estimate import unit_values

Floats = npt.NDArray[np.float64]
LEVEL = 0.95


def entangled(record: Record) -> tuple[Moved, ...]:
    """What the edits of a run do to each other behaviour; none where none was asked for, or the base model is not scored."""
    by = "margin" if metric(record.config.metric).needs_judge else record.config.metric
    found = []
    for other in record.plan.also:
        away = Record(record.plan, record.store, asked=asked_of(other.name))
        if not (base := away.find("base")):
            return ()
        plain = away.of(base[0], by)[0]
        ceiling = ceiling_of(away)
        arms = {arm.name: arm for arm in away.find("shift")} | ({} if ceiling is None else {"ceiling": ceiling})
        gain = {name: measured(_gain(away, arm, by, plain), away.groups) for name, arm in arms.items()}
        found.append(
            Moved(
                behaviour=other.name,
                metric=by,
                questions=len(plain),
                base=measured(plain, away.groups),
                gain=gain,
                claims=tuple(_claims(away, by, plain)),
            )
        )
    return tuple(found)


def _claims(away: Record, by: str, plain: Floats) -> list[MovedClaim]:
    """Every claim in every read mode that has an edit."""
    found = []
    for read in away.config.reads:
        for claim in away.plan.claims:
            for arm in away.find("claim", claim.name, read):
                ours = _gain(away, arm, by, plain)
                theirs = np.array([_gain(away, one, by, plain) for one in away.drawn(claim.name, read)])
                found.append(_claim(claim.name, read, ours, theirs.reshape(-1, len(plain)), away.groups))
    return found


def _claim(name: str, read: str, ours: Floats, theirs: Floats, groups: list[str]) -> MovedClaim:
    """A claim's gain, [questions], beside those of its random Locations, [Locations, questions]."""
    means = np.array([_mean(one, groups) for one in theirs])
    known = means[np.isfinite(means)]
    ends = (_known(known.min()), _known(known.max())) if len(known) else (None, None)
    random = Measured(mean=_known(known.mean()) if len(known) else None, interval=ends, n=len(known))
    lead, rank = stats.crossed_mean((ours - theirs)[:, None, :], groups).interval(LEVEL) if len(theirs) else None, None
    if len(known) and np.isfinite(_mean(ours, groups)):
        rank = 1 + int((known >= _mean(ours, groups)).sum())
    nothing = Measured(mean=None, interval=(None, None), n=0, reason="no random Location was drawn")
    return MovedClaim(
        name=name,
        read=read,
        gain=measured(ours, groups),
        random=random,
        lead=nothing if lead is None else _estimated(lead),
        rank=rank,
    )


def _gain(record: Record, arm: Arm, by: str, plain: Floats) -> Floats:
    """[questions], what an arm's chosen edit adds to the base model's score."""
    values: Floats = record.of(arm, by).mean(axis=0) - plain
    return values


def measured(values: Floats, groups: list[str]) -> Measured:
    """The mean of [questions] values over groups of questions, with its interval."""
    if not np.isfinite(values).any():
        return Measured(mean=None, interval=(None, None), n=0, reason="nothing was scored")
    return _estimated(stats.bootstrap_mean(values, groups=groups, level=LEVEL, draws=2000))


def _estimated(one: stats.Estimate) -> Measured:
    more = {"reason": one.reason} if one.reason else {}
    return Measured(mean=_known(one.value), interval=(_known(one.low), _known(one.high)), n=one.n, **more)


def _mean(values: Floats, groups: list[str]) -> float:
    asked = unit_values(values, groups)
    return float(asked.mean()) if len(asked) else float("nan")


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def place(claim: MovedClaim) -> str:
    """A claim's rank among itself and its random Locations, such as "1 of 20"; "" where it has none."""
    return f"{claim.rank} of {1 + claim.random.n}" if claim.rank is not None else ""


def told(one: Moved) -> list[str]:
    """What an audit's edits do to another behaviour, a sentence a claim."""

    def moved(value: Measured) -> str:
        low, high = (units.difference(end, one.metric, unit=False) for end in value.interval)
        return f"{units.difference(value.mean, one.metric)} (95 % interval {low} to {high})"

    ceiling = f"; the ceiling {units.difference(one.gain['ceiling'].mean, one.metric)}" if "ceiling" in one.gain else ""
    sentences = []
    for claim in one.claims:
        said = f"On {visible(one.behaviour, 80)} the edit at {visible(claim.name, 40)}, read {visible(claim.read, 20)}, "
        said += f"adds {moved(claim.gain)} in {visible(one.metric, 40)}"
        if claim.random.n:
            theirs = units.difference(claim.random.mean, one.metric)
            said += f", {claim.random.n} random Locations {theirs} on average: a lead of {moved(claim.lead)}"
            said += f", rank {where}" if (where := place(claim)) else ""
        sentences.append(f"{said}, over {claim.gain.n} groups of questions{ceiling}.")
    return sentences
