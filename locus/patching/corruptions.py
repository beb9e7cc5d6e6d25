"""What takes the place of the clean values: another prompt's run, noise, a mean, zeros or another example's values.

A corruption that is a run of its own (replaced tokens, noise on embeddings) can be patched both ways. An ablation is a
set of values and no run: it can only be put into the clean run, and its effect has no natural scale to divide by.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from locus.errors import UserError
from locus.model import Model
from locus.patching.pairs import PatchPair
from locus.patching.runs import Kind, Run, Side, batch_of, run

KINDS: tuple[Kind, ...] = ("head", "attention", "mlp")


class Corruption(Protocol):
    """Gives the corrupted side of a batch of pairs."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    def runs(self, model: Model, pairs: Sequence[PatchPair], clean: Run, kinds: Sequence[Kind], side: Side) -> list[Run]:
        """One corrupted run per draw, laid out as the clean one."""
        ...


@dataclass(frozen=True)
class Replacement:
    """The pair's corrupted prompt: similar tokens in the place of the key tokens, so that inputs stay ordinary (the default).

    Source: Zhang & Nanda 2023, symmetric token replacement.
    """

    name: str = "token replacement"

    def runs(self, model: Model, pairs: Sequence[PatchPair], clean: Run, kinds: Sequence[Kind], side: Side) -> list[Run]:
        """See Corruption."""
        spans = [dict(pair.spans) for pair in pairs]
        return [run(model, batch_of(model, [pair.corrupted for pair in pairs], spans, side), kinds)]


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

    def runs(self, model: Model, pairs: Sequence[PatchPair], clean: Run, kinds: Sequence[Kind], side: Side) -> list[Run]:
        """See Corruption.

        Raises:
            UserError: if a pair lacks the span, or nu or draws cannot be used.
        """
        if self.nu <= 0 or self.draws < 1:
            raise UserError("nu above 0 and at least 1 draw", f"nu {self.nu}, draws {self.draws}", "Take nu = 3, draws = 10.")
        deviation = self.nu * embedding_deviation(model)
        starts = clean.batch.starts.tolist()
        found = []
        for draw in range(self.draws):
            hidden = clean.batch.entry.hidden.clone()
            for row, pair in enumerate(pairs):
                places = pair.changed if self.span == "changed" else pair.spans.get(self.span, ())
                if not places:
                    raise UserError(
                        f"a span {self.span!r} to put noise on", f"a pair with spans {sorted(pair.spans)}", "Name another span."
                    )
                # Seeded by the prompt itself: batching and order must not change an effect.
                generator = torch.Generator().manual_seed(_seed(self.seed, draw, pair.clean))
                noise = torch.randn(len(places), hidden.shape[-1], generator=generator) * deviation
                columns = [starts[row] + place for place in places]
                hidden[row, columns] += noise.to(hidden.device, hidden.dtype)
            found.append(run(model, clean.batch, kinds, hidden))
        return found


def _seed(*parts: object) -> int:
    """A generator seed that depends on the values alone, in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


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
    """Zeros, the mean over the batch's prompts, or another prompt's values, in the place of the clean ones.

    Attributes:
        how: zero; mean (over examples, position by position); resample (each example gets another one's).
        seed: of the resampling.

    The mean and the resampled values come from the corrupted prompts of the same batch, which must be of equal length.
    """

    how: Literal["zero", "mean", "resample"]
    seed: int = 0

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.how} ablation"

    def runs(self, model: Model, pairs: Sequence[PatchPair], clean: Run, kinds: Sequence[Kind], side: Side) -> list[Run]:
        """See Corruption.

        Raises:
            UserError: if prompts of a batch differ in length or are fewer than two (mean, resample).
        """
        whole = bool(clean.batch.real.all())
        if self.how != "zero" and (not whole or len(pairs) < 2):
            raise UserError(
                f"at least 2 prompts of equal length in a batch, for {self.name}",
                f"{len(pairs)} prompt(s) of lengths {sorted({len(pair) for pair in pairs})}",
                "Group the pairs by length, or use zero ablation or token replacement.",
            )
        reference = clean if self.how == "zero" else Replacement().runs(model, pairs, clean, kinds, side)[0]
        others = _derangement(len(pairs), self.seed)

        def change(value: Tensor) -> Tensor:
            if self.how == "zero":
                return torch.zeros_like(value)
            return value.mean(dim=0, keepdim=True).expand_as(value) if self.how == "mean" else value[others]

        values = {site: change(value) for site, value in reference.values.items()}
        return [Run(clean.batch, [change(value) for value in reference.residual], values, None)]


def _derangement(count: int, seed: int) -> Tensor:
    """A permutation of `count` that leaves nothing in place: a cycle through a random order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found
