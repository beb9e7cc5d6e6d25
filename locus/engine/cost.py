"""What a piece of work costs: tokens, and the multiply-adds that an exact method cannot do without.

Counted by arithmetic where forwards are started, so it costs nothing and changes nothing. Counted are the layers' matrices,
attention over the pairs of positions of which one sees the other (what a mask hides is not work, though kernels do it), and
the vocabulary head where something is scored. A backward through a frozen matrix is one more product; gradients of weights
are not needed. What came from a cache costs nothing. Norms, activations, rotations, the edits' own few vectors, sliding
windows, and judging are left out. Where several edits share a forward, each is charged its own rows, and an equal part of
what they have in common.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import nn

from locus.engine.alone import spread
from locus.engine.trie import PackedRow
from locus.models.layout import HEADS
from locus.models.model import Model
from locus.models.packed import is_packed
from locus.models.points import POINTS

KINDS = {
    "read": "base model's pass over the questions",
    "linearise": "the base model's linearisation",
    "train": "training, forward",
    "gradient": "training, backward",
    "score": "scoring answers",
    "text": "KL and cross-entropy on text",
    "speak": "generating answers",
}


@dataclass(frozen=True)
class Sizes:
    """What of a model's shape multiply-adds depend on.

    Attributes:
        n_layers: of the model.
        layer: entries of one layer's matrices.
        after: of these, entries of the matrices that what an edit changes goes through: for heads, output projection and MLP.
        mlp: of these, entries of the MLP's.
        features: width of the output projection's input.
        head: entries of the vocabulary head.
    """

    n_layers: int
    layer: int
    after: int
    mlp: int
    features: int
    head: int

    @classmethod
    def of(cls, model: Model, point: str = HEADS) -> "Sizes":
        """Of a loaded model, edited at a point; of layers that are not alike, their mean."""
        layout, experts = model.layout, model.parts.routed
        layers = [_matrices(layer, experts) for layer in model.layers]
        mlps = [0 if mlp is None else _matrices(mlp, experts) for mlp in model.mlps]
        outputs = [0 if output is None else _matrices(output, None) for output in model.projections]
        downs = [0 if down is None else _matrices(down, None) for down in model.downs]
        features = [layout.d_in(layer) for layer in range(layout.n_layers)]
        layer, mlp, output, down, width = (
            round(sum(sizes) / layout.n_layers) for sizes in (layers, mlps, outputs, downs, features)
        )
        head = int(model.head.weight.numel())  # type: ignore[operator]
        where = POINTS[point]
        after = {"input": output if where.before_mlp else down, "output": 0, "stream": layer}[where.side]
        beyond = mlp if where.before_mlp and where.side != "stream" and not model.parallel else 0
        return cls(layout.n_layers, layer, after + beyond, mlp, width, head)


def _matrices(module: nn.Module, experts: tuple[int, int] | None) -> int:
    """Entries of a module's matrices that a token goes through: of experts, those of as many as it is sent to."""
    total = sum(one.in_features * one.out_features for one in module.modules() if isinstance(one, nn.Linear) and is_packed(one))
    for name, entry in module.named_parameters():
        if not entry.is_floating_point():
            continue  # packed: counted above
        if entry.ndim == 2 and not (experts and _listed(module, name, experts[1])):
            total += entry.numel()
        elif experts is not None and entry.ndim in (2, 3) and (entry.ndim == 2 or entry.shape[0] == experts[1]):
            total += entry.numel() * experts[0] // experts[1]
    return total


def _listed(module: nn.Module, name: str, count: int) -> bool:
    """Whether a parameter belongs to one of so many modules in a list."""
    steps = name.split(".")
    holders = (module.get_submodule(".".join(steps[:depth])) for depth in range(1, len(steps)))
    return any(isinstance(one, nn.ModuleList) and len(one) == count for one in holders)


@dataclass(frozen=True)
class Work:
    """What was run, in numbers that do not depend on how wide the model is; a part of it where edits share it.

    Attributes:
        tokens: that entered a forward.
        layers: tokens times layers that were gone through whole.
        tails: tokens times layers of which only what follows the head outputs was gone through (backward).
        pairs: pairs of positions of which one sees the other, times layers, once for each product over them.
        scored: positions that went through the vocabulary head.
        reused: tokens times layers that were not run, since what leaves them was held.
        bare: of `layers` and `tails`, those without their MLP: nothing is predicted from what it would say.
    """

    tokens: float = 0
    layers: float = 0
    tails: float = 0
    pairs: float = 0
    scored: float = 0
    reused: float = 0
    bare: float = 0

    def __add__(self, other: "Work") -> "Work":
        counts, more = vars(self), vars(other)  # added up at every step for every edit: `fields` would take ten times as long
        return Work(*(counts[name] + more[name] for name in counts))

    def part(self, count: int) -> "Work":
        """An equal part, of so many."""
        return self if count == 1 else Work(*(value / count for value in vars(self).values()))

    def macs(self, sizes: Sizes) -> float:
        """Multiply-adds in a model of these sizes."""
        matrices = self.layers * sizes.layer + self.tails * sizes.after - self.bare * sizes.mlp + self.scored * sizes.head
        return matrices + self.pairs * sizes.features

    def counts(self, sizes: Sizes) -> dict[str, float]:
        """All numbers, with `macs` and `spared`: the multiply-adds in matrices that reuse made unnecessary."""
        return {**asdict(self), "macs": self.macs(sizes), "spared": self.reused * sizes.layer}


def _attended_pairs(row: PackedRow, mask: npt.NDArray[np.bool_] | None = None) -> int:
    """Pairs of tokens of which the first, if it is among some, sees the second: each sees its ancestors and itself."""
    depths = row.positions if mask is None else row.positions[mask]
    return int(depths.sum()) + len(depths)


def forward(
    row: PackedRow, layers: int, scored: int = 0, reused: int = 0, answers: bool = False, predictors: int | None = None
) -> Work:
    """A row through the last `layers` layers and, at some positions, the head.

    Args:
        row: the tokens.
        layers: that are run.
        scored: positions at which the head is.
        reused: layers that are not, since the residual stream after them is held.
        answers: only the tokens at or after a last prompt token.
        predictors: positions that go through the last layer's MLP, where not all do.
    """
    count, pairs = (
        (int(row.answer_mask.sum()), _attended_pairs(row, row.answer_mask)) if answers else (len(row), _attended_pairs(row))
    )
    bare = 0 if predictors is None else count - predictors
    return Work(count, layers * count, 0, 2 * layers * pairs, scored, reused * len(row), bare)


def lead(row: PackedRow, layers: int) -> Work:
    """What leads to a row's answers through so many layers, of which the last predicts nothing there."""
    count = int((~row.answer_mask).sum())
    return Work(count, layers * count, 0, 2 * layers * _attended_pairs(row, ~row.answer_mask), bare=count)


def backward(row: PackedRow, layers: int, scored: int, past_mlp: bool = False) -> Work:
    """The way back from the loss through the last `layers` layers, in the lowest only to what the edit changed there.

    Where a layer's MLP runs parallel to its attention, or the edit is of the MLP, that way leads past the lowest layer's MLP.
    """
    bare = 0 if past_mlp and layers == 1 else len(row) - scored
    return Work(0, (layers - 1) * len(row), len(row), 4 * (layers - 1) * _attended_pairs(row), scored, bare=bare)


def back(model: Model, row: PackedRow, start: int, scored: int, point: str = HEADS) -> Work:
    """The way back in a model to what an edit of layer `start` changed there: over a tree, or over all of its texts apart."""
    where = POINTS[point]
    past_mlp = not where.before_mlp or (model.parallel and where.side != "stream")
    if model.trees:
        return backward(row, model.layout.n_layers - start, scored, past_mlp)
    return replace(backward(spread(row), model.layout.n_layers, scored, past_mlp), bare=0)


def linearised(lengths: Sequence[int], scored: int, n_layers: int) -> Work:
    """Texts of so many tokens as rows of their own, there and back to what enters the first layer's output projection."""
    count, pairs = sum(lengths), sum(length * (length + 1) // 2 for length in lengths)
    there = Work(count, n_layers * count, 0, 2 * n_layers * pairs, scored)
    return there + Work(0, (n_layers - 1) * count, count, 4 * (n_layers - 1) * pairs, scored)


def continued(start: int, count: int, n_layers: int, scored: int = 0) -> Work:
    """Tokens of one text at the positions start, start + 1, ..., each of which sees all before it and itself."""
    pairs = count * start + count * (count + 1) // 2
    return Work(count, n_layers * count, 0, 2 * n_layers * pairs, scored)


Note = Callable[[Sequence[int], Work], None]


class Tally:
    """The work done for each of several edits, by kind.

    Args:
        edits: how many; one for the base model.

    Attributes:
        by_edit: for each edit, kind -> work.
    """

    def __init__(self, edits: int = 1):
        self.by_edit: list[dict[str, Work]] = [{} for _ in range(edits)]

    def add(self, kind: str, edits: Sequence[int], work: Work) -> None:
        """Charge work that some edits, by their numbers, have in common: an equal part to each."""
        share = work.part(len(edits))
        for edit in edits:
            self.by_edit[edit][kind] = self.by_edit[edit].get(kind, Work()) + share

    def merge(self, other: "Tally") -> None:
        """Add what another tally of the same edits has counted."""
        for edit, works in enumerate(other.by_edit):
            for kind, work in works.items():
                self.add(kind, [edit], work)

    def counts(self, edit: int, sizes: Sizes) -> dict[str, dict[str, float]]:
        """One edit's work by kind, as a trial's record has it."""
        return {kind: work.counts(sizes) for kind, work in self.by_edit[edit].items()}
