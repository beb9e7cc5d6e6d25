"""One number per patch and example: pairs go in batch by batch, and a map of effects comes out.

Batches hold prompts of equal length, so that nothing is padded, unless a side of padding is asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from locus.errors import UserError
from locus.model import Anatomy, Model
from locus.patching.corruptions import Corruption, Replacement
from locus.patching.metrics import Array, Direction, Effects, LogitDifference, Metric, Normalise, effects
from locus.patching.pairs import PatchPair
from locus.patching.runs import Component, Kind, Patch, Run, Side, batch_of, patched, run

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


@dataclass(frozen=True)
class Layout:
    """How pairs are put into batches.

    Attributes:
        rows: pairs in a batch.
        side: None to batch prompts of equal length only, else the side of the padding.
        tokens: in one patched forward.
    """

    rows: int = 16
    side: Side | None = None
    tokens: int = 4096


def sweep(
    model: Model,
    pairs: Sequence[PatchPair],
    patches: Sequence[Patch],
    direction: Direction = "denoise",
    corruption: Corruption = REPLACEMENT,
    metric: Metric = LOGIT_DIFFERENCE,
    layout: Layout | None = None,
) -> PatchMap:
    """Patch every pair with every patch.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        patches: sets of components; see `heads`, `outputs` and `windows`.
        direction: denoise (clean values into the corrupted run) or noise (the other way round).
        corruption: token replacement unless told otherwise.
        metric: logit difference unless told otherwise.
        layout: of the batches.

    Raises:
        UserError: if there is no pair or patch, or an ablation is asked to denoise.
    """
    layout = layout or Layout()
    if not pairs or not patches:
        raise UserError("at least one pair and one patch", f"{len(pairs)} and {len(patches)}", "Name what to patch.")
    kinds: tuple[Kind, ...] = tuple({component.kind: None for patch in patches for component in patch})
    found = np.full((len(patches), len(pairs)), np.nan)
    clean, corrupted = np.full(len(pairs), np.nan), np.full(len(pairs), np.nan)
    for members in _batches(pairs, layout):
        here = [pairs[index] for index in members]
        side: Side = layout.side or "right"
        plain = run(model, batch_of(model, [p.clean for p in here], [dict(p.spans) for p in here], side), kinds)
        clean[members], corrupted[members], found[:, members] = _values(
            model, (here, patches), plain, corruption.runs(model, here, plain, kinds, side), (direction, metric, layout)
        )
    return PatchMap(tuple(patches), found, clean, corrupted, direction, metric.name, corruption.name)


def _values(
    model: Model,
    what: tuple[Sequence[PatchPair], Sequence[Patch]],
    plain: Run,
    draws: Sequence[Run],
    how: tuple[Direction, Metric, Layout],
) -> tuple[Array, Array, Array]:
    """Metric values of one batch: clean [rows], corrupted [rows], patched [patches, rows]; means over the draws."""
    (pairs, patches), (direction, metric, layout) = what, how
    reference = plain.logits
    assert reference is not None, "the clean side is a run"
    corrupted, found = [], []
    for spoilt in draws:
        if spoilt.logits is None and direction == "denoise":
            raise UserError(
                "a corruption that is a run of its own, for denoising",
                "an ablation",
                "Use direction 'noise', or token replacement or Gaussian noise.",
            )
        base, source = (spoilt, plain) if direction == "denoise" else (plain, spoilt)
        values = patched(model, base, source, patches, lambda z: metric(z, pairs, reference), layout.tokens)
        found.append(values.double().cpu().numpy())
        missing = np.full(len(pairs), np.nan)
        corrupted.append(missing if spoilt.logits is None else metric(spoilt.logits, pairs, reference).double().cpu().numpy())
    clean = metric(reference, pairs, reference).double().cpu().numpy()
    return clean, np.mean(corrupted, axis=0), np.mean(found, axis=0)


def _batches(pairs: Sequence[PatchPair], layout: Layout) -> Iterator[list[int]]:
    """Indices of the pairs of each batch; of equal length unless padding is allowed."""
    groups: dict[int, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(len(pair) if layout.side is None else 0, []).append(index)
    for members in groups.values():
        for start in range(0, len(members), layout.rows):
            yield members[start : start + layout.rows]


def heads(anatomy: Anatomy, positions: Iterable[int | str | None] = (None,)) -> list[Patch]:
    """Every head on its own, at all positions or at each of some."""
    return [
        (Component("head", layer, head, position),)
        for position in positions
        for layer in range(anatomy.n_layers)
        for head in range(anatomy.n_heads)
    ]


def outputs(anatomy: Anatomy, kind: Kind, positions: Iterable[int | str | None] = (None,)) -> list[Patch]:
    """Every layer's attention output, MLP output or entering residual stream on its own."""
    assert kind != "head", "heads() lists heads"
    return [(Component(kind, layer, None, position),) for position in positions for layer in range(anatomy.n_layers)]


def window(anatomy: Anatomy, kind: Kind, centre: int, width: int, position: int | str | None = None) -> Patch:
    """The layers from centre - width // 2 on, `width` of them, cut at the ends of the model.

    Source: the layout of ROME's causal traces.
    """
    low, high = max(0, centre - width // 2), min(anatomy.n_layers, centre - width // 2 + width)
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
