"""Attribution patching: what a patch would do, to first order, for every patch at the cost of a few passes.

effect = (value in the source run - value in the base run) . d metric / d value, at the base run; or with the gradient
averaged along the straight line between both runs' embeddings (integrated gradients). It is a screen, not a result:
saturated softmaxes and effects that cancel hide from a gradient, so `screen` verifies the top exactly and draws a random
sample of the rest to bound what was missed.

Source: Nanda 2023 (attribution patching); Syed et al. 2023; Hanna et al. 2024 (EAP-IG, gradients along input embeddings);
Kramár et al. 2024 for what it misses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats as scipy_stats
from torch import Tensor

from locus.errors import UserError
from locus.models.model import Model
from locus.patching.component import Kind, Patch
from locus.patching.metrics import Array, Divergence, Normalise
from locus.patching.pairs import PatchPair
from locus.patching.runs import Run, shared_prefix, traced
from locus.patching.sweep import How, Keep, PatchMap, Values, computed, maps, patch_maps, values_of
from locus.stats import clopper_pearson
from locus.stats.estimate import Estimate

Sites = dict[tuple[Kind, int], Tensor]


def attribute(
    model: Model, pairs: Sequence[PatchPair], patches: Sequence[Patch], how: How, steps: int = 0, keep: Keep = computed
) -> list[PatchMap]:
    """Estimate what `measure` would find.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        patches: sets of components, whose estimates add up within a patch.
        how: direction, corruption, metrics and batching.
        steps: 0 takes the gradient at the base run; above, its mean at the midpoints of that many equal steps between
            the embeddings of both runs.
        keep: asked for every batch, with what would compute it.

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

    def estimate_batch(members: Sequence[PatchPair], patches: Sequence[Patch], plain: Run, draws: Sequence[Run]) -> Values:
        estimates = [_estimates(model, (members, patches), (plain, spoilt), how, steps) for spoilt in draws]
        return (
            estimates[0][0],
            np.mean([values[1] for values in estimates], axis=0),
            np.mean([values[2] for values in estimates], axis=0),
        )

    return maps(model, pairs, patches, how, estimate_batch, keep)


def _estimates(
    model: Model, pairs_and_patches: tuple[Sequence[PatchPair], Sequence[Patch]], runs: tuple[Run, Run], how: How, steps: int
) -> Values:
    """Values of one batch and draw; see `maps`."""
    (pairs, patches), (plain, spoilt) = pairs_and_patches, runs
    if spoilt.logits is None or plain.logits is None:
        raise UserError("a corruption that is a run of its own", how.corruption.name, "Use token replacement or noise.")
    base, source = (spoilt, plain) if how.direction == "denoise" else (plain, spoilt)
    # What comes before the first token that differs has no product to add, and needs no gradient.
    prefix = shared_prefix(base, source) if how.batching.short else None
    start = 0 if prefix is None else prefix.length
    kinds: tuple[Kind, ...] = tuple({component.kind: None for patch in patches for component in patch})
    points = [(step + 0.5) / steps for step in range(steps)] or [0.0]
    measured = values_of(how, pairs, plain)
    total: list[Sites] = [{} for _ in how.metrics]
    for point in points:
        hidden = base.residual[0] + point * (source.residual[0] - base.residual[0])
        hidden = hidden.expand(len(base.batch), -1, -1)[:, start:]
        gradients = _gradients(lambda z: traced(model, base.batch, kinds, z, prefix), hidden, kinds, measured)
        for sums, slopes in zip(total, gradients, strict=True):
            for site, slope in slopes.items():
                sums[site] = sums[site] + slope if site in sums else slope
    moves = {site: (source.value(*site) - base.value(*site))[:, start:] / len(points) for site in total[0]}
    estimates = []
    for sums in total:
        products = {site: moves[site] * slope for site, slope in sums.items()}
        estimates.append(torch.stack([_estimate(model, products, base, patch) for patch in patches]))
    clean, corrupted = (measured(logits).double().cpu().numpy() for logits in (plain.logits, spoilt.logits))
    origin = corrupted if how.direction == "denoise" else clean
    return clean, corrupted, origin[None] + torch.stack(estimates, dim=-1).double().cpu().numpy()


def _gradients(
    forward: Callable[[Tensor], Run], hidden: Tensor, kinds: Sequence[Kind], metric: Callable[[Tensor], Tensor]
) -> list[Sites]:
    """d metric / d value at every site of some kinds, one a metric, from one forward of embeddings [rows, T, width]."""
    with torch.enable_grad():
        forward_run = forward(hidden.detach().clone().requires_grad_())
        assert forward_run.logits is not None, "a forward gives logits"
        sites: list[tuple[Kind, int]] = list(forward_run.values)
        if "residual" in kinds:
            sites += [("residual", layer) for layer in range(len(forward_run.residual))]
        values = [forward_run.value(*site) for site in sites]
        totals = metric(forward_run.logits).sum(dim=0)
        slopes = [torch.autograd.grad(one, values, retain_graph=at + 1 < len(totals)) for at, one in enumerate(totals)]
    return [dict(zip(sites, one, strict=True)) for one in slopes]


def _estimate(model: Model, products: Sites, base: Run, patch: Patch) -> Tensor:
    """[rows], the products added up over a patch's positions and features."""
    total = torch.zeros(len(base.batch), device=model.device)
    for component in patch:
        by_position = products[component.kind, component.layer][..., component.features(model)].sum(-1)
        where = base.batch.where(component.position)
        # Padding holds no value worth patching, and no real token depends on it.
        mask = base.batch.real if where is None else where
        total = total + (by_position * mask[:, -by_position.shape[1] :]).sum(-1)
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


def choose_patches(guessed: Sequence[Array], budget: Budget) -> tuple[list[int], list[int]]:
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
    others = [index for index in range(len(guessed[0])) if index not in top]
    sample = np.random.default_rng(budget.seed).permutation(others)[: budget.sample]
    return top, [int(index) for index in sample]


def judge_screen(picked: tuple[list[int], list[int]], means: Array, guessed: Array, least: float) -> Screen:
    """How far a screen can be trusted, from the exact effects of what it let through.

    Args:
        picked: indices of the top and of the sample.
        means: exact mean effects of the top and then the sample.
        guessed: [patches], estimated mean effects of all.
        least: size of effect that should not be missed.
    """
    top, sample = picked
    n_others = len(guessed) - len(top)
    large = np.abs(means[len(top) :]) >= least
    missed = clopper_pearson(int(large.sum()), len(large), side="upper")
    bound = n_others if np.isnan(missed.high) else int(np.floor(missed.high * n_others))
    defined = len(means) > 2 and means.std() > 0 and guessed[[*top, *sample]].std() > 0
    correlation = float(scipy_stats.spearmanr(means, guessed[[*top, *sample]]).statistic) if defined else float("nan")
    sentence = (
        f"{len(top)} of {len(guessed)} patches were taken from the top of the screen; of {len(large)} others drawn at random "
        f"{int(large.sum())} had an effect of {least:g} or more, so with 95 % confidence at most {bound} of all "
        f"{n_others} others do"
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
    top, sample = choose_patches([guessed], budget)
    exact = patch_maps(model, pairs, [patches[index] for index in (*top, *sample)], how)[0]
    return judge_screen((top, sample), exact.effects(normalise).values.mean(axis=1), guessed, budget.least), exact
