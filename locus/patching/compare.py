"""What other choices would have found: agreement of maps of the same components, and in words where conclusions differ."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from locus.patching.component import Patch
from locus.patching.detect import jaccard
from locus.patching.metrics import Probability
from locus.patching.outcome import Outcome
from locus.patching.sweep import against_sum
from locus.records.patch import Agreement, WindowEffect, WindowMap

CHOICES = ("tokens", "corruption", "metric")
DRAWS = 2_000


def agreement(outcomes: Sequence[Outcome]) -> list[Agreement]:
    """Every two maps of the same components: how far they find the same, rank alike and agree in sign.

    Returns:
        One row a pair.
    """
    rows = []
    for first, second in combinations(outcomes, 2):
        if (first.setting.site, first.setting.width) != (second.setting.site, second.setting.width):
            continue
        either = first.detection.detected | second.detection.detected
        means = first.detection.mean, second.detection.mean
        # Without spread in one map (nothing moves) there is no order to compare.
        ordered = len(means[0]) > 2 and min(means[0].std(), means[1].std()) > 0
        rows.append(
            Agreement(
                a=first.label,
                b=second.label,
                differ=tuple(name for name in CHOICES if _chosen(first, name) != _chosen(second, name)),
                jaccard=_or_none(jaccard(first.detection.detected, second.detection.detected)),
                correlation=_or_none(scipy_stats.spearmanr(*means).statistic) if ordered else None,
                sign=float((np.sign(means[0]) == np.sign(means[1]))[either].mean()) if either.any() else None,
                only_a=_names(first, first.detection.detected & ~second.detection.detected),
                only_b=_names(first, second.detection.detected & ~first.detection.detected),
            )
        )
    return rows


def _chosen(outcome: Outcome, choice: str) -> str:
    """Tokens, corruption or metric of a map."""
    return str(getattr(outcome.setting, choice))


def _or_none(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _names(outcome: Outcome, mask: Any) -> tuple[str, ...]:
    return tuple(outcome.map.names[index] for index in np.flatnonzero(mask))


def windows(outcomes: Sequence[Outcome], seed: int = 0) -> list[WindowMap]:
    """For every map of windows with the single layers beside it: joint effects against the sum of single ones.

    Returns:
        One row a map.
    """
    rows = []
    for joint in (outcome for outcome in outcomes if outcome.setting.width > 1):
        single = next((candidate for candidate in outcomes if _single_of(joint, candidate)), None)
        if single is None:
            continue
        compared = against_sum(joint.effects, single.effects, joint.map.patches, single.map.patches)
        peak = int(np.argmax(np.abs(compared.joint.mean(axis=1))))
        rows.append(
            WindowMap(
                **dict(joint.setting),
                windows=tuple(
                    WindowEffect(name=span(patch), joint=_or_none(j), summed=_or_none(s), ratio=_or_none(r), reason=why)
                    for patch, j, s, r, why in zip(
                        joint.map.patches,
                        compared.joint.mean(axis=1),
                        compared.summed.mean(axis=1),
                        compared.ratio,
                        compared.reasons,
                        strict=True,
                    )
                ),
                peak=span(joint.map.patches[peak]),
                ratio=_or_none(compared.ratio[peak]),
                interval=_ratio_interval(compared.joint[peak], compared.summed[peak], seed),
            )
        )
    return rows


def _single_of(joint: Outcome, candidate: Outcome) -> bool:
    return candidate.setting == joint.setting.model_copy(update={"width": 1})


def span(patch: Patch) -> str:
    """A window in a few words: "mlp 3-5"."""
    first, last = patch[0].layer, patch[-1].layer
    where = "" if patch[0].position is None else f"@{patch[0].position}"
    return f"{patch[0].kind} {first}" + (f"-{last}" if last > first else "") + where


def _ratio_interval(joint: Any, summed: Any, seed: int) -> tuple[float, float] | None:
    picks = np.random.default_rng(seed).integers(0, len(joint), size=(DRAWS, len(joint)))
    sums = summed[picks].mean(axis=1)
    if (np.sign(sums) != np.sign(sums[0])).any() or (sums == 0).any():
        return None  # a denominator on both sides of zero has no interval
    ratios = joint[picks].mean(axis=1) / sums
    return float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))


def sentences(outcomes: Sequence[Outcome], compared: Sequence[Agreement], joint: Sequence[WindowMap]) -> list[str]:
    """In words: what each single change of a choice does to the conclusion."""
    texts = [*_changes(outcomes, compared), *_negatives(outcomes)]
    first = outcomes[0].setting
    for row in joint:
        if (row.tokens, row.metric) != (first.tokens, first.metric):
            continue
        if row.ratio is None:
            texts.append(f"{row.label}: at the peak ({row.peak}) the single layers add up to nothing, or to the other sign.")
            continue
        interval = "" if row.interval is None else f" (95 % interval {row.interval[0]:.2f} to {row.interval[1]:.2f})"
        times = f"{row.ratio:.2f} times the sum of their single effects{interval}"
        texts.append(f"{row.label}: patched together, {row.peak} have {times}.")
    return texts


def _changes(outcomes: Sequence[Outcome], compared: Sequence[Agreement]) -> Iterator[str]:
    """Pairs of maps that differ in one choice, and one of which is made by the first choices."""
    first = outcomes[0].setting
    for row in compared:
        if len(row.differ) != 1:
            continue
        base = next(outcome for outcome in outcomes if outcome.label == row.a)
        choice = row.differ[0]
        if any(_chosen(base, name) != getattr(first, name) for name in CHOICES):
            continue
        changed = next(outcome for outcome in outcomes if outcome.label == row.b)
        before, after = _chosen(base, choice), _chosen(changed, choice)
        change = f"{base.label}: {choice} {after} instead"
        if not base.detection.detected.any() and not changed.detection.detected.any():
            continue
        if not row.only_a and not row.only_b:
            yield f"{change} finds the same {int(base.detection.detected.sum())} components."
            continue
        loses = f"misses {_listed(row.only_a)}" if row.only_a else "misses nothing"
        adds = f"adds {_listed(row.only_b)}" if row.only_b else "adds nothing"
        shared = "none in common" if not row.jaccard else f"Jaccard {row.jaccard:.2f}"
        rank = "" if row.correlation is None else f", rank correlation {row.correlation:.2f}"
        yield f"{change} of {before} {loses} and {adds} ({shared}{rank})."


def _negatives(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Components that work against the answer, and whether probability sees them."""
    for outcome in outcomes:
        if outcome.setting.metric != Probability().name:
            continue
        setting = outcome.setting.model_copy(update={"metric": "logit difference"})
        reference = next((candidate for candidate in outcomes if candidate.setting == setting), None)
        if reference is None:
            continue
        against = reference.detection.detected & (reference.detection.mean < 0)
        shared = against & outcome.detection.detected & (outcome.detection.mean < 0)
        if against.any():
            missed = _names(reference, against & ~shared)
            yield (
                f"{outcome.label}: of the {int(against.sum())} found by logit difference to work against the "
                f"answer, probability finds {int(shared.sum())}" + (f"; it misses {_listed(missed)}." if missed else ".")
            )


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
