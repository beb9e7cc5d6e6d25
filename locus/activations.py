"""One pass of the base model over a forest yields everything later steps need of it.

Reference log-probs of every answer, head outputs at every answer's last token, and the residual stream entering chosen
layers, which all edits that start there share.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.forest import Forest, Row
from locus.forward import Prepared, base, prepare, sequence_logprobs
from locus.model import Model

TOKENS = 512  # a row's token budget on the CPU: large enough for full matrix speed, small enough for T x T masks


@dataclass
class Residuals:
    """The base model's residual stream entering some layers, for every node of one forest.

    Attributes:
        layers: by layer, [nodes, width].
    """

    layers: dict[int, Tensor] = field(default_factory=dict)

    def residual(self, layer: int, row: Row) -> Tensor | None:
        """[T, width] for a row, or None where the layer is not held."""
        held = self.layers.get(layer)
        return None if held is None else held[torch.from_numpy(row.nodes)]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.layers.values())


@dataclass
class Survey:
    """What one base pass over a forest found.

    Attributes:
        logprobs: [sequences], summed answer log-probs in nats.
        lengths: [sequences], scored tokens.
        residuals: residual streams of the layers asked for.
        features: [sequences, layers, heads, head_dim] at each sequence's last token, or None if not asked for.
        prepared: the rows, ready to run again for edits.
    """

    logprobs: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    residuals: Residuals
    features: npt.NDArray[np.float32] | None
    prepared: list[Prepared]


def survey(
    model: Model,
    forest: Forest,
    *,
    layers: Iterable[int] = (),
    features: bool = False,
    tokens: int = TOKENS,
    progress: Callable[[float], None] | None = None,
) -> Survey:
    """Run the base model over a forest once.

    Args:
        model: the model.
        forest: the question trees.
        layers: layers whose entering residual stream is kept.
        features: whether to keep head outputs at each sequence's last token.
        tokens: the rows' token budget.
        progress: told the fraction done.
    """
    anatomy, count = model.anatomy, len(forest.sequences)
    wanted = sorted(set(layers))
    held = {layer: torch.empty(len(forest), anatomy.width, dtype=model.dtype) for layer in wanted}
    logprobs = np.full(count, np.nan)
    found = np.empty((count, anatomy.n_layers, anatomy.n_heads, anatomy.head_dim), np.float32) if features else None
    rows = rows_of(model, forest, sorted(forest._of_owner), tokens)
    for done, prepared in enumerate(rows):
        nodes = torch.from_numpy(prepared.row.nodes)
        sequences = prepared.targets.sequences

        def keep(layer: int, hidden: Tensor, nodes: Tensor = nodes) -> None:
            if layer in held:
                held[layer][nodes] = hidden[0].cpu()

        with torch.no_grad():
            if found is None:
                hidden = base(model, prepared.entry, keep)
            else:
                ends = torch.from_numpy(forest.ends(prepared.row, sequences.tolist()))
                with head_outputs(model, ends) as outputs:
                    hidden = base(model, prepared.entry, keep)
                stacked = torch.stack([outputs[layer] for layer in range(anatomy.n_layers)], dim=1)
                found[sequences] = stacked.view(len(ends), anatomy.n_layers, anatomy.n_heads, -1).numpy()
            logprobs[sequences] = sequence_logprobs(model, hidden, prepared.targets)[0].cpu().numpy()
        if progress is not None:
            progress((done + 1) / len(rows))
    lengths = np.array([len(sequence.ids) - sequence.start for sequence in forest.sequences], dtype=np.int64)
    return Survey(logprobs, lengths, Residuals(held), found, rows)


def rows_of(model: Model, forest: Forest, owners: Sequence[int], tokens: int = TOKENS) -> list[Prepared]:
    """Pack questions into rows of a token budget and make them ready to run."""
    prepared = []
    for group in forest.pack(owners, tokens):
        sequences = forest.sequences_of(group)
        row = forest.row(sequences)
        prepared.append(prepare(model, row, forest.targets(row, sequences)))
    return prepared


class head_outputs:
    """Record the output projections' inputs at some positions of a one-row batch: {layer: [positions, features]}."""

    def __init__(self, model: Model, positions: Tensor):
        self.model, self.positions = model, positions

    def __enter__(self) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        self.handles = []
        for layer, projection in enumerate(self.model.projections):

            def record(_: torch.nn.Module, args: tuple[Tensor, ...], layer: int = layer) -> None:
                found[layer] = args[0][0, self.positions.to(args[0].device)].float().cpu()

            self.handles.append(projection.register_forward_pre_hook(record))
        return found

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
