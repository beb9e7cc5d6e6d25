"""Many claims in many audits: which of them hold together, at a stated rate of false discoveries.

Who audits a hundred claims wants a list of those that hold in which few are wrong. So over a sweep the rate of false discoveries
is controlled (Benjamini and Hochberg), question by question, in two lists: those that are supported, and those that are refuted.
The family is every claim that was asked about, fixed before the first result: one that could not be audited, or whose question
could not be put, stays in it and is never found.

Claims that are held against the same random Locations, or that share a ceiling, tend to err together. Ranks among shared places
are positively dependent, under which the method holds (arXiv 2104.08279, of ranks among one sample); of the other tests that is
an assumption.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from locus import stats, units
from locus.conclude import rule
from locus.conclude.record import Record
from locus.conclude.scores import scores_of
from locus.records.findings import QUESTIONS, Finding, Findings
from locus.records.sweep import SweepRecord
from locus.shown import visible

LEVEL = 0.1  # of false discoveries, unless another is asked for
PUT = ("supported", "refuted", "undecided")  # how a question stands that could be put, and whose answers are known to be right
NAN = math.nan


@dataclass(frozen=True)
class Adjusted:
    """One claim's p for and against it, adjusted over a family; None where the question could not be put."""

    p: float | None
    p_refuted: float | None


def adjusted(findings: Sequence[Finding | None]) -> list[Adjusted]:
    """One question's p over a family of claims.

    Args:
        findings: of each claim, by itself; None where there is none.
    """
    both = [(_p(one.p), _p(one.p_refuted)) if one is not None and one.standing in PUT else (NAN, NAN) for one in findings]
    controlled = [stats.benjamini_hochberg(ps) for ps in zip(*both, strict=True)] if both else []
    return [Adjusted(*(None if math.isnan(p) else float(p) for p in pair)) for pair in zip(*controlled, strict=True)]


def alone(record: Record) -> dict[tuple[str, str], Findings]:
    """(claim, read mode) -> its answers by the main metric as if it were the only claim: a family adjusts for the others.

    A claim lacks while not all trials that it needs are done.
    """
    found: dict[tuple[str, str], Findings] = {}
    for read in record.config.reads:
        for claim in record.plan.claims:
            scores = scores_of(record, claim.name, read, record.config.metric)
            if scores is not None:
                found[claim.name, read] = rule.conclude([scores], record.config).findings[0]
    return found


def described(record: SweepRecord) -> list[str]:
    """What holds over a sweep, a sentence each."""
    count, failed = len(record.claims), sum(bool(one.failed) for one in record.claims)
    waiting = sum(not one.answers and not one.failed for one in record.claims)
    said = [f"{count} claims in {len(record.audits)} audits: the family, which all p below are adjusted for."]
    if failed or waiting:
        said.append(f"{failed} could not be audited and {waiting} are not yet; they count in the family and are never found.")
    names = _names(record)
    rate = f"At a rate of false discoveries of {units.share(record.level)} (Benjamini and Hochberg over all {count}): "
    for question in QUESTIONS:
        for_it, against = ([names[one.audit, one.source, one.read] for one in record.found(question, no)] for no in (False, True))
        said.append(f"{rate}{question} at {listed(for_it)}; not {question}, by a margin, at {listed(against)}.")
        rate = "Likewise "
    return [*said, *_floor(record)]


def least_found(count: int, random: int, level: float) -> int:
    """How many of a family's claims must rank first before any is found special."""
    return max(1, math.ceil(count * stats.smallest_p(random) / level - 1e-9))


def _floor(record: SweepRecord) -> list[str]:
    """What ranks among so few places can show at most, where that is less than a single claim."""
    count, random = len(record.claims), min(one.random for one in record.audits)
    least = least_found(count, random, record.level)
    if least < 2:
        return []
    enough = math.ceil(count / record.level - 1e-9) - 1
    return [
        f"With {random} random Locations no p of special is under {stats.smallest_p(random):.3f}: none is found unless at least "
        f"{least} of the {count} rank first. With random = {enough:,} one could be found alone."
    ]


def _names(record: SweepRecord) -> dict[tuple[str, str, str], str]:
    """(audit, claim, read mode) -> what a sentence calls a claim: with whatever sets it apart from others of the sweep."""
    audits = {one.folder: one for one in record.audits}
    apart = [name for name in ("model", "behaviour", "seed") if len({getattr(one, name) for one in record.audits}) > 1]
    reads = len({one.read for one in record.claims}) > 1
    names = {}
    for claim in record.claims:
        audit = audits[claim.audit]
        about = dict.fromkeys(f"seed {audit.seed}" if name == "seed" else visible(getattr(audit, name), 60) for name in apart)
        about |= {f"read {claim.read}": None} if reads else {}
        names[claim.audit, claim.source, claim.read] = visible(claim.source, 60) + (f" ({', '.join(about)})" if about else "")
    return names


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in a sentence, as many as one reads."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}" if names else "none"


def _p(value: float | None) -> float:
    return NAN if value is None else float(value)
