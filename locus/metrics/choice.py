"""The answers' log-probs under edits, and every metric that is made of them, question by question.

What is scored is the summed log-prob of an answer's tokens. We score the answers as the data gives them (ITI's code appends a
final full stop), and find answer tokens by character offsets.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from locus.behaviours.items import Item
from locus.edits.base import Edit
from locus.engine.bank import Bank
from locus.engine.cost import Tally, Work
from locus.engine.forward import Batch, ResidualCache, edited, sequence_logprobs
from locus.engine.manifold import Departures
from locus.engine.trie import TokenTrie
from locus.machine.threads import thread_pool
from locus.metrics.base import Answers, Metric, States, shipped
from locus.models.model import Model

Floats = npt.NDArray[np.float64]


def score(
    model: Model,
    rows: Sequence[Batch],
    edits: Sequence[Edit],
    count: int,
    *,
    residual_cache: ResidualCache | None = None,
    progress: Callable[[float], None] | None = None,
    tally: Tally | None = None,
    departures: Departures | None = None,
) -> Floats:
    """Summed answer log-probs (nats) under each edit, [edits, sequences]; all edits in one forward a row, counted in `tally`.

    Where activations leave those of the base model is counted in `departures`.
    """
    bank, logprobs = Bank(edits), np.full((len(edits), count), np.nan)
    with bank.attach(model) as bank_state, thread_pool(model.n_threads) as each:

        def scored(batch: Batch) -> tuple[Floats, Tally]:
            row_tally = Tally(len(edits))
            with torch.no_grad():
                hidden = edited(model, batch, bank, bank_state, residual_cache, partial(row_tally.add, "score"))
                values = bank.restore_order(sequence_logprobs(model, hidden, batch.targets))
                if departures is not None:
                    places = torch.from_numpy(batch.targets.predictors).to(hidden.device)
                    departures.look(batch, bank.restore_order(hidden[:, places]))
            for edit in bank.order:
                row_tally.add("score", [edit], Work(scored=len(batch.targets.predictors)))
            return values.double().cpu().numpy(), row_tally

        for index, (batch, (values, row_tally)) in enumerate(zip(rows, each(scored, rows), strict=True)):
            logprobs[:, batch.targets.sequences] = values
            if tally is not None:
                tally.merge(row_tally)
            if progress is not None:
                progress((index + 1) / len(rows))
    return logprobs


def measures(
    items: Sequence[Item],
    trie: TokenTrie,
    logprobs: Floats,
    reference: Floats | None = None,
    metrics: Sequence[Metric] | None = None,
) -> dict[str, Floats]:
    """Every metric of answers, of every item.

    Args:
        items: owner i of the trie is item i.
        trie: their question trees.
        logprobs: [sequences], under the model that is measured (nats).
        reference: [sequences], under the base model; without it there is no metric that is a gain over it.
        metrics: what is measured; by default all of this package.

    Returns:
        By metric, [items].
    """
    chosen = [one for one in (shipped() if metrics is None else metrics) if one.of == "answers"]
    chosen = [one for one in chosen if reference is not None or not one.of_base]
    values = {one.name: np.full(len(items), np.nan) for one in chosen}
    for index, item in enumerate(items):
        sequences, cut = trie.sequences_of([index]), len(item.wanted)
        own, base = logprobs[sequences], None if reference is None else reference[sequences]
        answers = Answers(item, own[:cut], own[cut:], *((None, None) if base is None else (base[:cut], base[cut:])))
        for one in chosen:
            values[one.name][index] = float(one.values(answers))
    return values


def departed(
    items: Sequence[Item], trie: TokenTrie, beyond: Floats, lengths: Floats, metrics: Sequence[Metric]
) -> dict[str, Floats]:
    """Every metric of the states from which answers are predicted, of every item.

    Args:
        items: owner i of the trie is item i.
        trie: their question trees.
        beyond: [sequences], answer tokens predicted from where the base model is not.
        lengths: [sequences], answer tokens.
        metrics: what is measured.

    Returns:
        By metric, [items].
    """
    values = {one.name: np.full(len(items), np.nan) for one in metrics if one.of == "states"}
    for index, item in enumerate(items):
        sequences = trie.sequences_of([index])
        for one in metrics:
            if one.of == "states":
                values[one.name][index] = float(one.values(States(item, beyond[sequences], lengths[sequences])))
    return values
