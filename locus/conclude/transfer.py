"""What edits found in one prompt format do in another: the same edits on the same test questions, put otherwise.

Nothing is trained and nothing is chosen anew, so an edit that only works through the words around a question shows as one.
"""

import numpy as np

from locus import units
from locus.conclude.record import Arm, Record
from locus.conclude.scores import ceiling_of, findings
from locus.metrics.base import metric
from locus.records.beside import CurveClaim, Transfer
from locus.records.plan import put_as

PARTS = ("claim", "ceiling", "random")


def transfers(record: Record) -> tuple[Transfer, ...]:
    """What follows in every other prompt format; none where none was asked for, or trials are missing."""
    by = "margin" if metric(record.config.metric).needs_judge else record.config.metric
    found, home = [], gains(record, by)
    for name in record.config.transfer:
        away = Record(record.plan, record.store, asked=put_as(name))
        claims = []
        for read in record.config.reads:
            concluded = findings(away, read, by)
            if concluded is None:
                return ()
            for claim, answers in zip(record.plan.claims, concluded.findings, strict=True):
                claims.append(CurveClaim(name=claim.name, read=read, works=answers.works, special=answers.special))
        there = gains(away, by)
        kept = {part: _kept(there[part], home[part]) for part in PARTS}
        found.append(Transfer(prompt=name, metric=by, gain=there, kept=kept, claims=tuple(claims)))
    return tuple(found)


def gains(record: Record, by: str) -> dict[str, float | None]:
    """Mean gain over no edit, by part: of the first claim and its random Locations in the first read mode, and the ceiling."""
    claim, read, base = record.plan.claims[0].name, record.config.reads[0], record.find("base")
    ceiling = ceiling_of(record)
    arms: dict[str, list[Arm]] = {"claim": record.find("claim", claim, read), "random": record.drawn(claim, read)}
    arms["ceiling"] = [] if ceiling is None else [ceiling]
    gained: dict[str, float | None] = {}
    for part in PARTS:
        several = [record.of(arm, by).mean(axis=0) - record.of(base[0], by)[0] for arm in arms[part] if base]
        known = bool(several) and bool(np.isfinite(several).any())
        gained[part] = float(np.nanmean(several)) if known else None
    return gained


def _kept(away: float | None, home: float | None) -> float | None:
    return None if away is None or home is None or home <= 0 else away / home


def told(one: Transfer, at_home: str) -> str:
    """How much of what edits do carries over to a prompt format, in a sentence.

    Args:
        one: what they do there.
        at_home: the format in which they were trained.
    """
    parts = []
    for part in PARTS:
        gain, kept = one.gain[part], one.kept[part]
        if gain is not None:
            share = f", {units.share(float(kept))} of what it gains in {at_home}" if kept is not None else ""
            name = "random Locations (mean)" if part == "random" else f"the {part}"
            parts.append(f"{name} {units.difference(float(gain), one.metric)}{share}")
    answers = ", ".join(f"{claim.name}: special {claim.special.standing}, works {claim.works.standing}" for claim in one.claims)
    return f"In the prompt format {one.prompt} the same edits gain: {'; '.join(parts)}. There {answers}."
