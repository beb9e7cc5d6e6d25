"""What takes the place of the clean values: another prompt's run, noise, a mean, zeros or another example's values.

A corruption that is a run of its own (replaced tokens, noise on embeddings) can be patched both ways. An ablation is a
set of values and no run: it can only be put into the clean run, and its effect has no natural scale to divide by.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from locus.errors import UserError
from locus.models.model import Model
from locus.patching.component import Kind
from locus.patching.pairs import PatchPair
from locus.patching.runs import Run, batch_of, run_batch

# From the members of a batch (indices into all pairs) and their clean run to the corrupted runs, one a draw.
Spoil = Callable[[Sequence[int], Run], list[Run]]


class Corruption(Protocol):
    """Gives the corrupted side of any batch of some pairs; what it gives a pair does not depend on the batch."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def over(self, model: Model, pairs: Sequence[PatchPair], kinds: Sequence[Kind]) -> Spoil:
        """What corrupts batches of these pairs, keeping the values of some kinds of site."""
        ...


@dataclass(frozen=True)
class Replacement:
    """The pair's corrupted prompt: similar tokens in the place of the key tokens, so that inputs stay ordinary (the default).

    Source: Zhang & Nanda 2023, symmetric token replacement.
    """

    name: str = "token replacement"

    def over(self, model: Model, pairs: Sequence[PatchPair], kinds: Sequence[Kind]) -> Spoil:
        """See Corruption."""

        def spoil(members: Sequence[int], clean: Run) -> list[Run]:
            return [_corrupted(model, [pairs[index] for index in members], clean, kinds)]

        return spoil


def _corrupted(model: Model, pairs: Sequence[PatchPair], clean: Run, kinds: Sequence[Kind]) -> Run:
    """A run of corrupted prompts, laid out as the clean one."""
    prompts, spans = [pair.corrupted for pair in pairs], [dict(pair.spans) for pair in pairs]
    return run_batch(model, batch_of(model, prompts, spans, clean.batch.side), kinds)


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the clean prompt's embeddings at the key tokens.

    Attributes:
        span: which tokens; "changed" is where the pair's prompts differ.
        nu: standard deviation of the noise, in units of the standard deviation of all token embeddings.
        draws: noisy runs, whose effects are averaged by example.
        seed: of the draws; a prompt's noise does not depend on its batch.
        name: for tables.

    Source: Meng et al. 2022 (ROME), causal tracing; there nu = 3 and 10 draws.
    """

    span: str = "changed"
    nu: float = 3.0
    draws: int = 10
    seed: int = 0
    name: str = "Gaussian noise"

    def over(self, model: Model, pairs: Sequence[PatchPair], kinds: Sequence[Kind]) -> Spoil:
        """See Corruption.

        Raises:
            UserError: if a pair lacks the span, or nu or draws cannot be used.
        """
        if self.nu <= 0 or self.draws < 1:
            raise UserError("nu above 0 and at least 1 draw", f"nu {self.nu}, draws {self.draws}", "Take nu = 3, draws = 10.")
        deviation = self.nu * embedding_deviation(model)

        def spoil(members: Sequence[int], clean: Run) -> list[Run]:
            batch = [pairs[index] for index in members]
            return [
                run_batch(model, clean.batch, kinds, self._noisy(batch, clean, deviation, draw)) for draw in range(self.draws)
            ]

        return spoil

    def _noisy(self, pairs: Sequence[PatchPair], clean: Run, deviation: float, draw: int) -> Tensor:
        """Embeddings [rows, T, width] with a draw of noise on the span."""
        hidden = clean.batch.entry.hidden.clone()
        for row, (pair, start) in enumerate(zip(pairs, clean.batch.starts.tolist(), strict=True)):
            places = pair.changed if self.span == "changed" else pair.spans.get(self.span, ())
            if not places:
                raise UserError(
                    f"a span {self.span!r} to put noise on", f"a pair with spans {sorted(pair.spans)}", "Name another span."
                )
            # Seeded by the prompt itself: batching and order must not change an effect.
            generator = torch.Generator().manual_seed(_seed(self.seed, draw, pair.clean))
            noise = torch.randn(len(places), hidden.shape[-1], generator=generator) * deviation
            hidden[row, [start + place for place in places]] += noise.to(hidden.device, hidden.dtype)
        return hidden


def _seed(*values: object) -> int:
    """A generator seed that depends on the values alone, in every process."""
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest()[:7], "big")


def embedding_deviation(model: Model) -> float:
    """Standard deviation over all entries of all token embeddings, scaled where a family scales them."""
    embed = model.hf.get_input_embeddings()  # type: ignore[operator]
    total, squares, count = 0.0, 0.0, 0
    with torch.no_grad():
        for ids in torch.split(torch.arange(embed.weight.shape[0], device=model.device), 8192):
            rows = embed(ids).double()
            total += float(rows.sum())
            squares += float((rows**2).sum())
            count += rows.numel()
    return float((squares / count - (total / count) ** 2) ** 0.5)


@dataclass(frozen=True)
class Ablation:
    """Zeros, the mean over similar prompts, or another prompt's values, in the place of the clean ones.

    Attributes:
        how: zero; mean (over examples, position by position); resample (each example gets another one's).
        seed: of the resampling.

    The mean and the resampled values come from the corrupted prompts of all pairs of the same group (template) and length.
    """

    how: Literal["zero", "mean", "resample"]
    seed: int = 0

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.how} ablation"

    def over(self, model: Model, pairs: Sequence[PatchPair], kinds: Sequence[Kind]) -> Spoil:
        """See Corruption.

        Raises:
            UserError: if a pair is the only one of its group and length (mean, resample).
        """
        if self.how == "zero":
            return lambda members, clean: [_like(clean, torch.zeros_like)]
        strata = self._strata(pairs)
        if self.how == "resample":
            partner = self._partners(strata)

            def resample(members: Sequence[int], clean: Run) -> list[Run]:
                partners = _corrupted(model, [pairs[partner[index]] for index in members], clean, kinds)
                return [_like(partners, lambda value: value)]

            return resample
        means: dict[tuple[str, int], Run] = {}

        def average(members: Sequence[int], clean: Run) -> list[Run]:
            for key in dict.fromkeys(_stratum(pairs[index]) for index in members):
                if key not in means:
                    means[key] = _mean(model, [pairs[index].corrupted for index in strata[key]], kinds)
            return [_laid_out([means[_stratum(pairs[index])] for index in members], clean)]

        return average

    def _strata(self, pairs: Sequence[PatchPair]) -> dict[tuple[str, int], list[int]]:
        strata: dict[tuple[str, int], list[int]] = {}
        for index, pair in enumerate(pairs):
            strata.setdefault(_stratum(pair), []).append(index)
        alone = [f"{group!r} with {length} tokens" for (group, length), members in strata.items() if len(members) < 2]
        if alone:
            raise UserError(
                f"at least 2 pairs of every group and length, for {self.name}",
                f"one alone of {'; '.join(alone[:5])}" + (f" and {len(alone) - 5} more" if len(alone) > 5 else ""),
                "Use more pairs, or zero ablation or token replacement.",
            )
        return strata

    def _partners(self, strata: dict[tuple[str, int], list[int]]) -> dict[int, int]:
        """Whose values each pair gets: the next one's in a random cycle of its stratum, never its own."""
        partner: dict[int, int] = {}
        for (group, length), members in strata.items():
            generator = torch.Generator().manual_seed(_seed(self.seed, group, length))
            cycle = [members[at] for at in torch.randperm(len(members), generator=generator).tolist()]
            partner |= dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
        return partner


def _stratum(pair: PatchPair) -> tuple[str, int]:
    return pair.group, len(pair)


def _like(original: Run, change: Callable[[Tensor], Tensor]) -> Run:
    """Changed values, of which no forward is known."""
    return Run(
        original.batch, [change(v) for v in original.residual], {site: change(v) for site, v in original.values.items()}, None
    )


def _mean(model: Model, prompts: Sequence[tuple[int, ...]], kinds: Sequence[Kind], rows: int = 16) -> Run:
    """Mean values over prompts of one length, [1, T, features]."""
    first: Run | None = None
    for start in range(0, len(prompts), rows):
        totals = _like(run_batch(model, batch_of(model, prompts[start : start + rows]), kinds), lambda v: v.sum(0, keepdim=True))
        if first is None:
            first = totals
        else:
            residual = [a + b for a, b in zip(first.residual, totals.residual, strict=True)]
            first = Run(first.batch, residual, {site: v + totals.values[site] for site, v in first.values.items()}, None)
    assert first is not None, "a mean of no prompt"
    return _like(first, lambda value: value / len(prompts))


def _laid_out(means: Sequence[Run], clean: Run) -> Run:
    """A mean a row, where the clean run has its tokens; zeros on padding."""

    def put(like: Tensor, values: Sequence[Tensor]) -> Tensor:
        placed = torch.zeros_like(like)
        for row, (value, start) in enumerate(zip(values, clean.batch.starts.tolist(), strict=True)):
            placed[row, start : start + value.shape[1]] = value[0]
        return placed

    residual = [put(like, [mean.residual[layer] for mean in means]) for layer, like in enumerate(clean.residual)]
    values = {
        site: put(like, [mean.values[site] for mean in means]) for site, like in clean.values.items() if site in means[0].values
    }
    return Run(clean.batch, residual, values, None)
