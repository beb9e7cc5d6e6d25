"""What a run took, by what its store has counted: in all, by role and by kind of work."""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import add

from locus.records.cost import Cost, Seconds, Took
from locus.records.result import TrialResult
from locus.records.store import COUNTS

NOT_COUNTED = "made by a version of locus that did not count"
SUMS = ("tokens", "macs", "spared")
Sums = dict[str, "array[float]"]


def summary(trials: Mapping[str, TrialResult], counts: Iterable[tuple[str, str, Sequence[int | float]]]) -> Cost:
    """What the trials of a run took, as its verdict.json has it.

    Args:
        trials: id -> finished trial, in the order of ids.
        counts: a trial, a kind of its work and the counts of that, in the order of trials (`Store.counts`).
    """
    roles: dict[str, list[str]] = {}
    for name, trial in trials.items():
        roles.setdefault(trial.role, []).append(name)
    sums: dict[str, Sums] = {role: {name: array("d") for name in SUMS} for role in roles}
    counted: set[str] = set()
    by_work: dict[str, list[int | float]] = {}
    for name, work, found in counts:
        if name in trials:
            counted.add(name)
            by_work[work] = list(map(add, by_work.get(work, [0] * len(found)), found))
            for what, values in sums[trials[name].role].items():
                values.append(found[COUNTS.index(what)])
    by_role = {role: _took(ids, trials, counted, sums[role]) for role, ids in roles.items()}
    every = {what: array("d", (value for one in sums.values() for value in one[what])) for what in SUMS}
    total = _took(list(trials), trials, counted, every)
    timed = math.fsum(trial.seconds or 0.0 for name, trial in trials.items() if name in counted)
    return Cost(
        total=total,
        by_role=by_role,
        by_work={work: dict(zip(COUNTS, found, strict=False)) for work, found in by_work.items()},  # an older file has fewer
        macs_per_second=total.macs / timed if total.macs and timed else None,
        reason="" if total.counted == total.trials else NOT_COUNTED,
    )


def _took(ids: Sequence[str], trials: Mapping[str, TrialResult], counted: set[str], sums: Sums) -> Took:
    kept = {what: math.fsum(values) if values else None for what, values in sums.items()}
    seconds = math.fsum(trials[name].seconds or 0.0 for name in ids)
    return Took(trials=len(ids), counted=len(counted.intersection(ids)), seconds=seconds, **kept)


def cost_line(seconds: Seconds | None, took: Cost | None) -> str:
    """What a run took, in one line: wall time, and time and multiply-adds of its trials."""
    parts = []
    if seconds is not None and "this_call" in seconds.model_fields_set:
        parts.append(f"{seconds.this_call:.0f} s for this command")
    if seconds is not None:
        parts.append(f"{seconds.trials:.0f} s of trials, added up over processes")
    if took is None or took.total.macs is None:
        return f"{'; '.join(parts)}; not counted otherwise: {NOT_COUNTED if took is None else took.reason}"
    total, rate = took.total, took.macs_per_second
    parts.append(f"{total.tokens:,.0f} tokens and {total.macs:.3g} multiply-adds" + (f", {rate:.3g} a second" if rate else ""))
    if total.spared:
        parts.append(f"{total.spared:.3g} more without the prefixes that were reused")
    if total.counted < total.trials:
        parts.append(f"counted for {total.counted} of {total.trials} trials")
    return "; ".join(parts)
