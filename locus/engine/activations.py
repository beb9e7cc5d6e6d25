"""One pass of the base model over a trie yields everything later steps need of it.

Reference log-probs of every answer, what is at every site at each answer's last token, and the residual stream entering chosen
layers, which all edits that start there share.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.engine import cost
from locus.engine.alone import spread, texts_of
from locus.engine.cache import NONE, Cache
from locus.engine.forward import Batch, base, prepare_row, sequence_logprobs
from locus.engine.trie import PackedRow, TokenTrie
from locus.machine import threads
from locus.models.model import Layout, Model
from locus.sites.space import SiteSpace

TOKENS = 512  # a row's token budget on the CPU: large enough for full matrix speed, small enough for T x T masks


@dataclass
class Residuals:
    """The base model's residual stream entering some layers, for every node of one trie.

    Attributes:
        layers: by layer, [nodes, width]; zero at last tokens, where nobody reads features.
    """

    layers: dict[int, Tensor] = field(default_factory=dict)

    def residual(self, layer: int, row: PackedRow) -> Tensor | None:
        """[T, width] for a row, or None where the layer is not held."""
        hidden = self.layers.get(layer)
        return None if hidden is None else hidden[torch.from_numpy(row.nodes)]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.layers.values())


@dataclass
class BasePass:
    """What one base pass over a trie found.

    Attributes:
        logprobs: [sequences], summed answer log-probs in nats.
        lengths: [sequences], scored tokens.
        residuals: residual streams of the layers asked for.
        features: [sequences, layers, sites, width] at each sequence's last token, of the most sites of any layer and the
            widest, 0 where a layer has none; or None if not asked for.
        prepared: rows ready to score edits with: without the sequences' last tokens.
    """

    logprobs: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    residuals: Residuals
    features: npt.NDArray[np.float32] | None
    prepared: list[Batch]


def base_pass(
    model: Model,
    trie: TokenTrie,
    *,
    layers: Iterable[int] = (),
    features: SiteSpace | None = None,
    tokens: int = TOKENS,
    progress: Callable[[float], None] | None = None,
    cache: Cache = NONE,
    tally: cost.Tally | None = None,
) -> BasePass:
    """Run the base model over a trie once, or take what an earlier pass over the same trie left in a cache.

    Args:
        model: the model.
        trie: the question trees.
        layers: layers whose entering residual stream is kept; n_layers stands for what leaves the last one. Of a model that is
            run whole none is.
        features: the sites of which it is kept what is there at each sequence's last token, if any are.
        tokens: the rows' token budget.
        progress: told the fraction done.
        cache: where base passes are kept.
        tally: where the pass is counted, as nothing if it is all in the cache.
    """
    layout, count = model.layout, len(trie.sequences)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"logprobs": ((count,), torch.float64)}
    if features is not None:
        shapes["features"] = ((count, layout.n_layers, *_most(features)), torch.float32)
    for layer in sorted(set(layers)) if model.trees else ():
        shapes[f"residual-{layer}"] = ((len(trie), layout.d_model), model.dtype)
    owners = sorted(trie._of_owner)
    asked = "" if features is None else features.kind.plain.name  # wherever edits of them act
    about = {"model": model.numerics, "forest": trie.sha256, "tokens": tokens, "ends": asked} if cache.limit else {}
    results: dict[str, Tensor] = {}
    rows, run_rows = rows_of(model, trie, owners, tokens), list[Batch]()
    with cache.lock(about), ExitStack() as stack:
        for name in shapes:
            entry = cache.get(name, {**about, "what": name})
            if entry is not None:
                results[name] = entry.values
        missing = [name for name in shapes if name not in results]
        for name in missing:
            results[name] = stack.enter_context(cache.fill(name, {**about, "what": name}, *shapes[name]))
        if missing:
            run_rows = _smaller_rows(model, trie, owners, tokens, features is not None) or rows
            _base_pass(model, trie, run_rows, {name: results[name] for name in missing}, features, progress)
    if tally is not None:
        tally.add("read", [0], cost.Work())
        for prepared in run_rows if missing else []:
            scored = len(prepared.targets.predictors) if "logprobs" in missing else 0
            row = prepared.row if model.trees else spread(prepared.row)
            tally.add("read", [0], cost.forward(row, layout.n_layers, scored))
    lengths = np.array([len(sequence.ids) - sequence.start for sequence in trie.sequences], dtype=np.int64)
    place = np.argsort(trie.order)  # what is kept of sequences is kept in the order of the trie's nodes
    streams = {int(name.split("-")[1]): values for name, values in results.items() if name.startswith("residual-")}
    outputs = results["features"].numpy()[place] if features is not None else None
    return BasePass(results["logprobs"].numpy()[place], lengths, Residuals(streams), outputs, rows)


def _smaller_rows(model: Model, trie: TokenTrie, owners: Sequence[int], tokens: int, ends: bool) -> list[Batch]:
    """Rows for one pass of the base model, short enough that every thread has some; none if these are the usual rows."""
    fewer = min(tokens, -(-len(trie) // model.n_threads) + trie.shared)
    return rows_of(model, trie, owners, fewer, ends) if ends or fewer < tokens else []


def _base_pass(
    model: Model,
    trie: TokenTrie,
    rows: Sequence[Batch],
    into: dict[str, Tensor],
    space: SiteSpace | None,
    progress: Callable[[float], None] | None,
) -> None:
    """Run the rows and write what is asked for ("logprobs", "features", "residual-LAYER") into the given tensors."""
    layout, place = model.layout, np.argsort(trie.order)

    def run_row(prepared: Batch) -> list[tuple[str, Tensor, Tensor]]:
        nodes, sequences = torch.from_numpy(prepared.row.nodes), prepared.targets.sequences
        kept = torch.from_numpy(place[sequences])
        outputs_of_row: list[tuple[str, Tensor, Tensor]] = []

        def keep(layer: int, hidden: Tensor) -> None:
            if f"residual-{layer}" in into:
                outputs_of_row.append((f"residual-{layer}", nodes, hidden[0].cpu()))

        ends = _places(model, prepared.row, trie.ends(prepared.row, sequences.tolist())) if "features" in into else None
        with torch.no_grad(), recorder.at(ends) as outputs:
            hidden = base(model, prepared, keep)
            keep(layout.n_layers, hidden)
            if ends is not None:
                assert space is not None, "features are those of some sites"
                outputs_of_row.append(("features", kept, _by_site(layout, space, outputs)))
            if "logprobs" in into:
                logprobs = sequence_logprobs(model, hidden, prepared.targets)[0]
                outputs_of_row.append(("logprobs", kept, logprobs.double().cpu()))
        return outputs_of_row

    with _Recorded(model, space) as recorder, threads.thread_pool(model.n_threads) as each:
        for index, outputs_of_row in enumerate(each(run_row, rows)):
            for name, indices, values in outputs_of_row:  # in the order of the rows: what two of them share is the last one's
                into[name][indices] = values
            if progress is not None:
                progress((index + 1) / len(rows))


def rows_of(model: Model, trie: TokenTrie, owners: Sequence[int], tokens: int = TOKENS, ends: bool = False) -> list[Batch]:
    """Pack questions into rows of a token budget and make them ready to run, without the last tokens unless asked for."""
    prepared = []
    for group in trie.pack(owners, tokens):
        sequences = trie.sequences_of(group)
        row = trie.row(sequences, ends)
        prepared.append(prepare_row(model, row, trie.targets(row, sequences)))
    return prepared


def _places(model: Model, row: PackedRow, positions: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Row and column of a forward's batch at which positions of a tree's row are read."""
    at = torch.from_numpy(positions)
    if model.trees:
        return torch.zeros_like(at), at
    texts = texts_of(row)
    return texts.text[at], texts.column[at]


def _most(space: SiteSpace) -> tuple[int, int]:
    """The most sites of any layer, and the widest."""
    return max(space.counts), max(space.widths[layer] for layer in space.layers)


def _by_site(layout: Layout, space: SiteSpace, outputs: dict[int, Tensor]) -> Tensor:
    """[positions, layers, sites, width] from what was at each layer's point."""
    count = len(next(iter(outputs.values())))
    by_site = torch.zeros(count, layout.n_layers, *_most(space))
    for layer, values in outputs.items():
        width = space.widths[layer]
        for index in range(space.counts[layer]):
            by_site[:, layer, index, :width] = values[:, space.kind.columns(layout, layer, index)]
    return by_site


class _Recorded(threading.local):
    """Records what is at the sites' point at some places of a batch, for each thread those of its own row."""

    def __init__(self, model: Model, space: SiteSpace | None):
        self.model, self.space = model, space
        self.places: tuple[Tensor, Tensor] | None = None
        self.found: dict[int, Tensor] = {}

    def __enter__(self) -> "_Recorded":
        self.handles = []
        for layer in () if self.space is None else self.space.layers:

            def record(values: Tensor, layer: int = layer) -> Tensor:
                if self.places is not None:
                    rows, columns = (one.to(values.device) for one in self.places)
                    self.found[layer] = values[rows, columns].float().cpu()
                return values

            assert self.space is not None, "sites have layers"
            self.handles.append(self.model.attach(self.space.kind.point, layer, record))
        return self

    @contextmanager
    def at(self, places: tuple[Tensor, Tensor] | None) -> Iterator[dict[int, Tensor]]:
        """Record inside a `with` block at these rows and columns, if any: {layer: [places, features]}."""
        self.places, self.found = places, {}
        try:
            yield self.found
        finally:
            self.places = None

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
