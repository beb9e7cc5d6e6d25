"""Attribution patching: what a patch would do, to first order, for every patch at the cost of a few passes.

effect = (value in the source run - value in the base run) . d metric / d value, at the base run; or with the gradient
averaged along the straight line between both runs' embeddings (integrated gradients). It is a screen, not a result:
saturated softmaxes and effects that cancel hide from a gradient, so `screen` verifies the top exactly and draws a random
sample of the rest to bound what was missed.

Source: Nanda 2023 (attribution patching); Syed et al. 2023; Hanna et al. 2024 (EAP-IG, gradients along input embeddings);
Kramár et al. 2024 for what it misses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats as scipy_stats
from torch import Tensor

from locus.errors import UserError
from locus.model import Model
from locus.patching.metrics import Array, Divergence, Metric, Normalise
from locus.patching.pairs import PatchPair
from locus.patching.runs import Kind, Patch, Run, traced
from locus.patching.sweep import How, PatchMap, batches, clean_run, measure
from locus.stats import clopper_pearson
from locus.stats.estimate import Estimate

Sites = dict[tuple[Kind, int], Tensor]


def attribute(model: Model, pairs: Sequence[PatchPair], patches: Sequence[Patch], how: How, steps: int = 0) -> list[PatchMap]:
    """Estimate what `measure` would find.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        patches: sets of components, whose estimates add up within a patch.
        how: direction, corruption, metrics and layout.
        steps: 0 takes the gradient at the base run; above, its mean at the midpoints of that many equal steps between
            the embeddings of both runs.

    Returns:
        A map a metric, whose `patched` is the base run's value plus the estimate.

    Raises:
        UserError: if the corruption is no run, or KL is asked to noise from its own minimum.
    """
    if how.direction == "noise" and steps == 0 and any(isinstance(metric, Divergence) for metric in how.metrics):
        raise UserError(
            "a metric with a slope at the clean run",
            "KL from the clean run, which is least there",
            "Use the logit difference, or integrated gradients.",
        )
    kinds: tuple[Kind, ...] = tuple({component.kind: None for patch in patches for component in patch})
    count = len(how.metrics)
    found = np.full((len(patches), len(pairs), count), np.nan)
    clean, corrupted = np.full((len(pairs), count), np.nan), np.full((len(pairs), count), np.nan)
    spoil = how.corruption.over(model, pairs, kinds)
    for members in batches(pairs, how.layout):
        here = [pairs[index] for index in members]
        plain = clean_run(model, here, kinds, how.layout.side or "right")
        draws = spoil(members, plain)
        if any(spoilt.logits is None for spoilt in draws):
            raise UserError("a corruption that is a run of its own", how.corruption.name, "Use token replacement or noise.")
        for at, metric in enumerate(how.metrics):
            rows = [_rows(model, (plain, spoilt), here, metric, how.direction == "denoise", steps, patches) for spoilt in draws]
            clean[members, at] = rows[0][0]
            corrupted[members, at] = np.mean([row[1] for row in rows], axis=0)
            base = corrupted if how.direction == "denoise" else clean
            found[:, members, at] = base[members, at] + np.mean([row[2] for row in rows], axis=0)
    return [
        PatchMap(tuple(patches), found[..., at], clean[:, at], corrupted[:, at], how.direction, metric.name, how.corruption.name)
        for at, metric in enumerate(how.metrics)
    ]


def _rows(
    model: Model,
    runs: tuple[Run, Run],
    pairs: Sequence[PatchPair],
    metric: Metric,
    denoise: bool,
    steps: int,
    patches: Sequence[Patch],
) -> tuple[Array, Array, Array]:
    """Metric of the clean and the corrupted run [rows], and estimates [patches, rows]."""
    plain, spoilt = runs
    base, source = (spoilt, plain) if denoise else (plain, spoilt)
    reference = plain.logits
    assert reference is not None and spoilt.logits is not None, "both sides are runs"
    kinds = tuple({component.kind: None for patch in patches for component in patch})
    points = [(step + 0.5) / steps for step in range(steps)] or [0.0]
    total: Sites = {}
    for point in points:
        hidden = base.residual[0] + point * (source.residual[0] - base.residual[0])
        for site, gradient in _gradients(model, base, kinds, hidden, lambda z: metric(z, pairs, reference)).items():
            total[site] = total[site] + gradient if site in total else gradient
    products = {site: (source.value(*site) - base.value(*site)) * gradient / len(points) for site, gradient in total.items()}
    estimates = torch.stack([_estimate(model, products, base, patch) for patch in patches])
    sides = [metric(logits, pairs, reference).double().cpu().numpy() for logits in (reference, spoilt.logits)]
    return sides[0], sides[1], estimates.double().cpu().numpy()


def _gradients(model: Model, base: Run, kinds: Sequence[Kind], hidden: Tensor, read: object) -> Sites:
    """d metric / d value at every site of some kinds, for embeddings [rows, T, width]."""
    assert callable(read)
    with torch.enable_grad():
        held = traced(model, base.batch, kinds, hidden.detach().expand(len(base.batch), -1, -1).clone().requires_grad_())
        sites: list[tuple[Kind, int]] = list(held.values)
        if "residual" in kinds:
            sites += [("residual", layer) for layer in range(len(held.residual))]
        gradients = torch.autograd.grad(read(held.logits).sum(), [held.value(*site) for site in sites])
    return dict(zip(sites, gradients, strict=True))


def _estimate(model: Model, products: Sites, base: Run, patch: Patch) -> Tensor:
    """[rows], the products added up over a patch's positions and features."""
    total = torch.zeros(len(base.batch), device=model.device)
    for component in patch:
        by_position = products[component.kind, component.layer][..., component.features(model.anatomy)].sum(-1)
        where = base.batch.where(component.position)
        # Padding holds no value worth patching, and no real token depends on it.
        total = total + (by_position * (base.batch.real if where is None else where)).sum(-1)
    return total


@dataclass(frozen=True)
class Budget:
    """What a screen may spend.

    Attributes:
        top: patches of largest estimated effect that are patched exactly.
        sample: others, drawn at random, that are patched exactly to see what the estimate misses.
        steps: of integrated gradients; 0 for the plain gradient.
        least: size of a normalised mean effect that should not be missed.
        seed: of the sample.
    """

    top: int = 20
    sample: int = 30
    steps: int = 0
    least: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Screen:
    """A screen and how far it can be trusted.

    Attributes:
        top: indices of the patches of largest estimate.
        sample: indices of the random others.
        missed: share of all others whose exact mean effect is `least` or more, with its upper 95 % bound.
        bound: upper bound on how many others that is.
        correlation: Spearman's, of exact and estimated mean effects over all verified patches; NaN if undefined.
        sentence: all of this in words.
    """

    top: tuple[int, ...]
    sample: tuple[int, ...]
    missed: Estimate
    bound: int
    correlation: float
    sentence: str


def choose(guessed: Sequence[Array], budget: Budget) -> tuple[list[int], list[int]]:
    """Which patches to verify: the largest of every estimate, and a random sample of the others.

    Args:
        guessed: one or more estimates of mean effects, [patches] each.
        budget: how many.

    Returns:
        Indices of the top and of the sample; the top is `budget.top` of each estimate, without repeats.

    Raises:
        UserError: if fewer than one patch is to be verified.
    """
    if budget.top < 1 or budget.sample < 0:
        raise UserError("a top of at least 1", f"{budget.top} and a sample of {budget.sample}", "Verify more patches.")
    orders = [np.argsort(-np.abs(means), kind="stable")[: budget.top] for means in guessed]
    top = list(dict.fromkeys(int(index) for order in orders for index in order))
    rest = [index for index in range(len(guessed[0])) if index not in top]
    sample = np.random.default_rng(budget.seed).permutation(rest)[: budget.sample]
    return top, [int(index) for index in sample]


def judge(chosen: tuple[list[int], list[int]], means: Array, guessed: Array, least: float) -> Screen:
    """How far a screen can be trusted, from the exact effects of what it let through.

    Args:
        chosen: indices of the top and of the sample.
        means: exact mean effects of the top and then the sample.
        guessed: [patches], estimated mean effects of all.
        least: size of effect that should not be missed.
    """
    top, sample = chosen
    rest = len(guessed) - len(top)
    large = np.abs(means[len(top) :]) >= least
    missed = clopper_pearson(int(large.sum()), len(large), side="upper")
    bound = rest if np.isnan(missed.high) else int(np.floor(missed.high * rest))
    defined = len(means) > 2 and means.std() > 0 and guessed[[*top, *sample]].std() > 0
    correlation = float(scipy_stats.spearmanr(means, guessed[[*top, *sample]]).statistic) if defined else float("nan")
    sentence = (
        f"{len(top)} of {len(guessed)} patches were taken from the top of the screen; of {len(large)} others drawn at random "
        f"{int(large.sum())} had an effect of {least:g} or more, so with 95 % confidence at most {bound} of all {rest} others do"
    )
    return Screen(tuple(top), tuple(sample), missed, bound, correlation, sentence)


def screen(
    model: Model,
    pairs: Sequence[PatchPair],
    patches: Sequence[Patch],
    how: How,
    budget: Budget,
    normalise: Normalise = "mean",
) -> tuple[Screen, PatchMap]:
    """Estimate every patch, verify the largest exactly, and bound what the estimate missed by a random sample.

    Returns:
        The screen, and the exact map of its top and sample, in that order.

    Raises:
        UserError: if fewer than one patch is to be verified.
    """
    guessed = attribute(model, pairs, patches, how, budget.steps)[0].effects(normalise).values.mean(axis=1)
    top, sample = choose([guessed], budget)
    exact = measure(model, pairs, [patches[index] for index in (*top, *sample)], how)[0]
    return judge((top, sample), exact.effects(normalise).values.mean(axis=1), guessed, budget.least), exact
