"""One number per patch and example: pairs go in batch by batch, and a map of effects comes out.

Batches hold prompts of equal length, so that nothing is padded, unless a side of padding is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from locus.errors import UserError
from locus.models.layout import Layout
from locus.models.model import Model
from locus.patching.component import HEADED, Component, Kind, Patch
from locus.patching.corruptions import Corruption, Replacement
from locus.patching.metrics import (
    Array,
    Direction,
    Divergence,
    Effects,
    LogitDifference,
    Metric,
    Normalise,
    Probability,
    effects,
    floor_warning,
)
from locus.patching.pairs import PatchPair
from locus.patching.runs import Run, Side, batch_of, patched, run_batch

REPLACEMENT, LOGIT_DIFFERENCE = Replacement(), LogitDifference()


@dataclass(frozen=True)
class PatchMap:
    """Metric values of clean, corrupted and patched runs, by example.

    Attributes:
        patches: what was patched.
        patched: [patches, examples], averaged over the corruption's draws.
        clean: [examples].
        corrupted: [examples], averaged over draws; NaN for ablations.
        direction: denoise or noise.
        metric: its name.
        corruption: its name.
    """

    patches: tuple[Patch, ...]
    patched: Array
    clean: Array
    corrupted: Array
    direction: Direction
    metric: str
    corruption: str

    @property
    def names(self) -> list[str]:
        """A name per patch: its components, joined."""
        return [" + ".join(map(str, patch)) for patch in self.patches]

    def effects(self, normalise: Normalise = "mean") -> Effects:
        """Effects by patch and example, positive where a component supports the clean answer."""
        return effects(self.patched, self.clean, self.corrupted, self.direction, normalise)

    @property
    def warnings(self) -> list[str]:
        """What this metric cannot show in these runs."""
        limits = []
        if self.metric == Probability().name and self.direction == "denoise":
            limits.append(floor_warning(self.corrupted, self.effects("none").values))
        if self.metric == Divergence().name and self.direction == "noise":
            limits.append("KL from the clean run can only grow when noising: no component can be found negative")
        return [sentence for sentence in limits if sentence]


@dataclass(frozen=True)
class Batching:
    """How pairs are put into batches.

    Attributes:
        rows: pairs in a batch.
        side: None to batch prompts of equal length only, else the side of the padding.
        tokens: in one patched forward.
        short: start patched runs at the first token that differs.
    """

    rows: int = 16
    side: Side | None = None
    tokens: int = 4096
    short: bool = True


BATCHING = Batching()


@dataclass(frozen=True)
class How:
    """How pairs are patched and read.

    Attributes:
        direction: denoise (clean values into the corrupted run) or noise (the other way round).
        corruption: token replacement unless told otherwise.
        metrics: read from the same runs; logit difference unless told otherwise.
        batching: of the pairs.
    """

    direction: Direction = "denoise"
    corruption: Corruption = REPLACEMENT
    metrics: tuple[Metric, ...] = (LOGIT_DIFFERENCE,)
    batching: Batching = BATCHING


# Of a batch: clean and corrupted [rows, metrics], and patched [patches, rows, metrics].
Values = tuple[Array, Array, Array]
# From pairs, patches, their clean run and the corrupted ones (a draw each) to values.
Read = Callable[[Sequence[PatchPair], Sequence[Patch], Run, Sequence[Run]], Values]
# From a batch's members and what computes its values to its values: where values of an earlier run are kept.
Keep = Callable[[Sequence[int], Callable[[], Values]], Values]


def computed(members: Sequence[int], make: Callable[[], Values]) -> Values:
    """Keeps nothing."""
    return make()


def patch_maps(
    model: Model, pairs: Sequence[PatchPair], patches: Sequence[Patch], how: How, keep: Keep = computed
) -> list[PatchMap]:
    """Patch every pair with every patch and read every metric.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        patches: sets of components; see `heads`, `outputs` and `windows`.
        how: direction, corruption, metrics and batching.
        keep: asked for every batch, with what would compute it.

    Returns:
        A map a metric.

    Raises:
        UserError: if there is no pair or patch, or an ablation is asked to denoise.
    """

    def measure_batch(batch: Sequence[PatchPair], patches: Sequence[Patch], plain: Run, draws: Sequence[Run]) -> Values:
        return _exact(model, (batch, patches), plain, draws, how)

    return maps(model, pairs, patches, how, measure_batch, keep)


def maps(
    model: Model, pairs: Sequence[PatchPair], patches: Sequence[Patch], how: How, read: Read, keep: Keep = computed
) -> list[PatchMap]:
    """Make the clean and the corrupted runs of all pairs, batch by batch, and gather what is read of them; see `measure`.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        patches: sets of components.
        how: direction, corruption, metrics and batching.
        read: the values of a batch.
        keep: asked for every batch, with what would compute it.
    """
    if not pairs or not patches:
        raise UserError("at least one pair and one patch", f"{len(pairs)} and {len(patches)}", "Name what to patch.")
    kinds: tuple[Kind, ...] = tuple({component.kind: None for patch in patches for component in patch})
    count = len(how.metrics)
    patched = np.full((len(patches), len(pairs), count), np.nan)
    clean, corrupted = np.full((len(pairs), count), np.nan), np.full((len(pairs), count), np.nan)
    spoil = how.corruption.over(model, pairs, kinds)
    for members in batches(pairs, how.batching):
        batch = [pairs[index] for index in members]

        def make(batch: list[PatchPair] = batch, members: list[int] = members) -> Values:
            prompts, spans = [pair.clean for pair in batch], [dict(pair.spans) for pair in batch]
            plain = run_batch(model, batch_of(model, prompts, spans, how.batching.side or "right"), kinds)
            return read(batch, patches, plain, spoil(members, plain))

        clean[members], corrupted[members], patched[:, members] = keep(members, make)
    return [
        PatchMap(
            tuple(patches), patched[..., at], clean[:, at], corrupted[:, at], how.direction, metric.name, how.corruption.name
        )
        for at, metric in enumerate(how.metrics)
    ]


def sweep(
    model: Model,
    pairs: Sequence[PatchPair],
    patches: Sequence[Patch],
    direction: Direction = "denoise",
    corruption: Corruption = REPLACEMENT,
    metric: Metric = LOGIT_DIFFERENCE,
    batching: Batching = BATCHING,
) -> PatchMap:
    """`measure` with one metric."""
    return patch_maps(model, pairs, patches, How(direction, corruption, (metric,), batching))[0]


def values_of(how: How, pairs: Sequence[PatchPair], plain: Run) -> Callable[[Tensor], Tensor]:
    """From logits [..., rows, vocabulary] to all metrics, [..., rows, metrics]."""
    reference = plain.logits
    assert reference is not None, "the clean side is a run"
    return lambda logits: torch.stack([metric(logits, pairs, reference) for metric in how.metrics], dim=-1)


def _exact(
    model: Model, pairs_and_patches: tuple[Sequence[PatchPair], Sequence[Patch]], plain: Run, draws: Sequence[Run], how: How
) -> Values:
    """Values of one batch; means over the draws."""
    pairs, patches = pairs_and_patches
    measured = values_of(how, pairs, plain)

    def to_cpu(logits: Tensor) -> Tensor:
        return measured(logits).double().cpu()

    corrupted, patched_values = [], []
    for spoilt in draws:
        if spoilt.logits is None and how.direction == "denoise":
            raise UserError(
                "a corruption that is a run of its own, for denoising",
                "an ablation",
                "Use direction 'noise', or token replacement or Gaussian noise.",
            )
        base, source = (spoilt, plain) if how.direction == "denoise" else (plain, spoilt)
        patched_values.append(patched(model, base, source, patches, to_cpu, how.batching.tokens, how.batching.short).numpy())
        missing = np.full((len(pairs), len(how.metrics)), np.nan)
        corrupted.append(missing if spoilt.logits is None else to_cpu(spoilt.logits).numpy())
    assert plain.logits is not None, "the clean side is a run"
    return to_cpu(plain.logits).numpy(), np.mean(corrupted, axis=0), np.mean(patched_values, axis=0)


def batches(pairs: Sequence[PatchPair], batching: Batching) -> Iterator[list[int]]:
    """Indices of the pairs of each batch; of equal length unless padding is allowed, and with long shared beginnings together."""
    groups: dict[int, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(len(pair) if batching.side is None else 0, []).append(index)
    for members in groups.values():
        members.sort(key=lambda index: pairs[index].changed)
        for start in range(0, len(members), batching.rows):
            yield members[start : start + batching.rows]


def heads(layout: Layout, positions: Iterable[int | str | None] = (None,), kind: Kind = "head") -> list[Patch]:
    """Every head on its own (its output, or its query; or every key-value head's key or value), at each of some positions."""
    assert kind in HEADED, f"{kind} has no heads"
    return [
        (Component(kind, layer, head, position),)
        for position in positions
        for layer, count in enumerate(layout.kv_heads if kind in ("key", "value") else layout.heads)
        for head in range(count)
    ]


def outputs(layout: Layout, kind: Kind, positions: Iterable[int | str | None] = (None,)) -> list[Patch]:
    """Every layer's attention output, MLP output or entering residual stream on its own."""
    assert kind not in HEADED, "heads() lists heads"
    layers = layout.headed if kind == "attention" else range(layout.n_layers)
    return [(Component(kind, layer, None, position),) for position in positions for layer in layers]


def window(layout: Layout, kind: Kind, centre: int, width: int, position: int | str | None = None) -> Patch:
    """The layers from centre - width // 2 on, `width` of them, cut at the ends of the model.

    Source: the layout of ROME's causal traces.
    """
    low, high = max(0, centre - width // 2), min(layout.n_layers, centre - width // 2 + width)
    return tuple(Component(kind, layer, None, position) for layer in range(low, high))


@dataclass(frozen=True)
class Windows:
    """Joint effects of windows of layers beside what their single layers add up to.

    Attributes:
        joint: by window, the effect of patching its layers together, [examples] each.
        summed: by window, the sum of the single layers' effects, [examples] each.
        ratio: by window, mean joint over mean summed; NaN where the sum is 0 or of other sign.
        reasons: by window, why its ratio is NaN; "" otherwise.
    """

    joint: Array
    summed: Array
    ratio: Array
    reasons: list[str] = field(default_factory=list)


def against_sum(joint: Effects, singles: Effects, windows: Sequence[Patch], single: Sequence[Patch]) -> Windows:
    """Compare windows with their single layers; a ratio above 1 says that the layers work together.

    Args:
        joint: effects of the windows, [windows, examples].
        singles: effects of the single-layer patches, in the same normalisation.
        windows: the windows.
        single: the single-layer patches, one component each.

    Raises:
        UserError: if the normalisations differ, or a window's layer has no single patch.
    """
    row = {patch[0]: index for index, patch in enumerate(single) if len(patch) == 1}
    lacking = sorted({str(component) for patch in windows for component in patch if component not in row})
    if lacking or joint.normalise != singles.normalise:
        raise UserError(
            "a single-layer patch for every layer of every window, normalised alike",
            ", ".join(lacking) or f"{joint.normalise} and {singles.normalise}",
            "Sweep the single layers over the same pairs.",
        )
    summed = np.stack([singles.values[[row[component] for component in patch]].sum(axis=0) for patch in windows])
    means, sums = joint.values.mean(axis=1), summed.mean(axis=1)
    defined = (np.abs(sums) > 1e-9) & (means * sums >= 0)
    ratio = np.where(defined, means / np.where(defined, sums, 1.0), np.nan)
    reasons = ["" if ok else "the single layers' effects add up to nothing, or to the other sign" for ok in defined]
    return Windows(joint.values, summed, ratio, reasons)
