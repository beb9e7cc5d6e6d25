"""Patching along one direction of a site, and whether that direction is dormant: an effect through a path never used.

Replacing only the coordinate along a unit vector v can move a model that the whole value does not: v may join a coordinate that
differs between the runs, and is read by nothing, to one that never differs, and is read. Then the site does not carry the
behaviour, though an edit along v steers it. Two signs: the direction does more than the whole site; or its effect is gone
when v is cut down to what the runs themselves move.

Source: Makelov, Lange & Nanda 2023, arXiv 2311.17030, who cut v down to what the output projection reads; a head's slice of the
projection reads every direction of the head, so here v is cut down to the span of the clean-corrupted differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from locus.errors import UserError
from locus.models.model import Model
from locus.patching.component import Component
from locus.patching.metrics import Array, LogitDifference, Metric
from locus.patching.pairs import PatchPair
from locus.patching.runs import Run, batch_of, patched, run_batch
from locus.stats.estimate import Estimate
from locus.stats.paired import t_interval

KEPT = 0.999  # share of the differences' variance that counts as moved by the runs


@dataclass(frozen=True)
class Dormancy:
    """Effects of denoising a site, by example, in units of the metric, and what they say of the direction.

    Attributes:
        whole: [examples], of the whole site.
        along: [examples], of the coordinate along the direction.
        active: [examples], of the coordinate along the part of the direction that the runs move.
        excess: mean of along - whole, with its interval.
        dormant: the direction does more than the whole site, or less than half of its effect is left of its active part.
        sentence: why, in words.
    """

    whole: Array
    along: Array
    active: Array
    excess: Estimate
    dormant: bool
    sentence: str


def along(base: Run, source: Run, component: Component, where: slice, direction: Tensor) -> Run:
    """The base run's values with only the coordinate along a direction as in the source run.

    Args:
        base: the run that is changed.
        source: where the coordinate comes from.
        component: the site.
        where: its features.
        direction: unit vector [features].
    """
    site = (component.kind, component.layer)
    values = base.values[site].clone()
    difference = (source.values[site] - base.values[site])[..., where]
    values[..., where] += (difference @ direction)[..., None] * direction
    # No forward gave these values, so nothing may be taken from a shared beginning.
    return replace(base, values={**base.values, site: values}, logits=None)


def dormancy(
    model: Model,
    pairs: Sequence[PatchPair],
    component: Component,
    direction: Tensor,
    metric: Metric | None = None,
    level: float = 0.95,
) -> Dormancy:
    """Test a direction of a head's output (or of another site) for dormancy.

    Args:
        model: the model.
        pairs: of equal length.
        component: the site, at all positions or one.
        direction: [features of the site], of any length but zero.
        metric: logit difference unless told otherwise.
        level: of the interval.

    Raises:
        UserError: if the direction is of another size or zero, or the pairs differ in length.
    """
    where = component.features(model)
    clean, corrupted = (
        run_batch(model, batch_of(model, prompts, [dict(pair.spans) for pair in pairs]), (component.kind,))
        for prompts in ([pair.clean for pair in pairs], [pair.corrupted for pair in pairs])
    )
    differences = (clean.value(component.kind, component.layer) - corrupted.value(component.kind, component.layer))[..., where]
    size = differences.shape[-1]
    if direction.shape != (size,) or not bool(direction.norm() > 0) or len({len(pair) for pair in pairs}) > 1:
        raise UserError(
            f"a direction of {size} features, not zero, and pairs of one length",
            f"shape {tuple(direction.shape)}, lengths {sorted({len(pair) for pair in pairs})}",
            "Take it from this site, and group the pairs by length.",
        )
    unit = direction.to(differences) / direction.norm().to(differences)
    moved = _moved(differences.reshape(-1, size))
    active = moved @ (moved.T @ unit)
    measure = metric or LogitDifference()
    reference, low = clean.logits, corrupted.logits
    assert reference is not None and low is not None, "both sides are runs"

    def effect(source: Run) -> Array:
        values = patched(model, corrupted, source, [(component,)], lambda z: measure(z, pairs, reference))[0]
        effects: Array = (values - measure(low, pairs, reference)).double().cpu().numpy()
        return effects

    site_effect, along_effect = effect(clean), effect(along(corrupted, clean, component, where, unit))
    active_effect = (
        effect(along(corrupted, clean, component, where, active / active.norm()))
        if bool(active.norm() > 1e-6)
        else 0.0 * site_effect
    )
    return _judged(site_effect, along_effect, active_effect, level)


def _moved(differences: Tensor) -> Tensor:
    """Orthonormal directions [features, k] that hold nearly all of the differences [n, features]."""
    _, sizes, directions = torch.linalg.svd(differences.double(), full_matrices=False)
    shares = (sizes**2).cumsum(0) / (sizes**2).sum().clamp(min=1e-30)
    count = int((shares < KEPT).sum()) + 1
    basis: Tensor = directions[:count].T.to(differences.dtype)
    return basis


def _judged(whole: Array, beyond: Array, active: Array, level: float) -> Dormancy:
    excess = t_interval(beyond - whole, level)
    sign = np.sign(beyond.mean()) or 1.0
    more = excess.low > 0 if sign > 0 else excess.high < 0
    gone = abs(beyond.mean()) > 1e-6 and sign * active.mean() < 0.5 * abs(beyond.mean())
    numbers = (
        f"along the direction {beyond.mean():+.3f}, its active part {active.mean():+.3f}, the whole site {whole.mean():+.3f}"
    )
    why = "more than the whole site" if more else "an effect that its active part does not have" if gone else ""
    sentence = (
        f"The direction is dormant: it has {why} ({numbers})." if why else f"No sign that the direction is dormant ({numbers})."
    )
    return Dormancy(whole, beyond, active, excess, bool(why), sentence)
