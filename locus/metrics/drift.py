"""Side effects on ordinary text: every metric of text, a passage at a time, by default KL and the change of cross-entropy.

Every text is measured under the base model and every edit in one pass on the same tokens (ITI's code drew different texts for
each). The offline text is the English of Python's own help topics; with a network, the openwebtext sample of the literature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locus.behaviours import lines
from locus.behaviours.encoding import all_unclosed
from locus.behaviours.items import content_hash
from locus.behaviours.prompts import TokenSequence
from locus.edits.base import Edit
from locus.engine.alone import spread
from locus.engine.bank import Bank
from locus.engine.cost import Tally, Work, forward
from locus.engine.forward import HEAD_CHUNK, Batch, ResidualCache, base, edited
from locus.engine.trie import TokenTrie
from locus.errors import UserError
from locus.metrics.base import Metric, Tokens, shipped
from locus.models.model import Model

Floats = npt.NDArray[np.float64]
HUB_TEXT = "stas/openwebtext-10k"


@dataclass(frozen=True)
class DriftText:
    """A named sample of ordinary text, one passage a document."""

    name: str
    passages: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the passages."""
        return content_hash(list(self.passages))


def load_text(name: str = "pydoc", count: int = 100, seed: int = 0) -> DriftText:
    """A sample of documents by name: `pydoc`, `openwebtext` (hub), or a text file with a blank line between passages.

    Raises:
        UserError: if it cannot be had or holds too little.
    """
    if name == "pydoc":
        from pydoc_data.topics import topics

        passages = [topic for _, topic in sorted(topics.items()) if len(topic) > 1500]
    elif name == "openwebtext":
        passages = _openwebtext()
    else:
        content = lines.text(Path(name), "pydoc, openwebtext or a UTF-8 text file")
        passages = [
            passage.strip() for passage in content.replace("\r\n", "\n").replace("\r", "\n").split("\n\n") if len(passage) > 400
        ]
    if len(passages) < 2:
        raise UserError(f"at least 2 long passages in {name!r}", str(len(passages)), "Give a longer text.")
    picked = np.random.default_rng(seed).permutation(len(passages))[:count]
    return DriftText(name, tuple(passages[index] for index in sorted(picked)))


def _openwebtext() -> list[str]:
    try:
        from datasets import load_dataset

        return [row["text"] for row in load_dataset(HUB_TEXT, split="train", streaming=True).take(500)]
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise UserError(
            f"the text sample {HUB_TEXT} from the hub",
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "Install locus-audit[hub] and check the network, or use --text pydoc.",
        ) from error


def text_trie(model: Model, text: DriftText, tokens: int) -> TokenTrie:
    """The first `tokens` tokens of every passage; every token but a passage's first is scored."""
    coded = [one.ids[:tokens] for one in all_unclosed(model.tokenizer, text.passages)]
    sequences = [TokenSequence(tuple(ids), 1) for ids in coded if len(ids) > 1]
    return TokenTrie(sequences, range(len(sequences)))


@dataclass(frozen=True)
class Drift:
    """Means over a passage's tokens.

    Attributes:
        values: by metric, [edits, passages]; changes from the base model where the metric is one of these.
        base: by metric that is a change, [passages], the base model's own.
    """

    values: dict[str, Floats]
    base: dict[str, Floats]


def drift(
    model: Model,
    rows: Sequence[Batch],
    edits: Sequence[Edit],
    *,
    residual_cache: ResidualCache | None = None,
    tally: Tally | None = None,
    metrics: Sequence[Metric] | None = None,
) -> Drift:
    """Measure several edits on the same texts.

    Args:
        model: the model.
        rows: the texts, ready to run.
        edits: what is measured.
        residual_cache: base residuals, if held: those entering the edited layers, and those leaving the last one (the reference).
        tally: where each edit's work is counted; the reference's is shared.
        metrics: what is measured; by default all of this package.
    """
    bank, note = Bank(edits), partial((tally or Tally(len(edits))).add, "text")
    chosen = [one for one in (shipped() if metrics is None else metrics) if one.of == "text"]
    own: dict[str, list[Tensor]] = {one.name: [] for one in chosen if one.of_base}
    found: dict[str, list[Tensor]] = {one.name: [] for one in chosen}
    with bank.attach(model) as bank_state, torch.no_grad():
        for batch in rows:
            bank_state.active = 0
            final_residual = residual_cache.residual(model.layout.n_layers, batch.row) if residual_cache is not None else None
            original = base(model, batch) if final_residual is None else final_residual[None].to(model.end)
            hidden = edited(model, batch, bank, bank_state, residual_cache, note)
            scored = len(batch.targets.token)
            note(
                bank.order,
                Work(scored=scored)
                if final_residual is not None
                else forward(batch.row if model.trees else spread(batch.row), model.layout.n_layers, scored),
            )
            for edit in bank.order:
                note([edit], Work(scored=scored))
            for one, means in zip(chosen, _compare(model, original, hidden, batch, chosen), strict=True):
                found[one.name].append(bank.restore_order(means[1:]))
                if one.of_base:
                    own[one.name].append(means[0])
    base_values, values = (
        {name: torch.cat(parts, dim=-1).double().cpu().numpy() for name, parts in collected.items()} for collected in (own, found)
    )
    return Drift({name: one - base_values.get(name, 0.0) for name, one in values.items()}, base_values)


def _compare(model: Model, original: Tensor, hidden: Tensor, batch: Batch, metrics: Sequence[Metric]) -> Tensor:
    """[metrics, 1 + edits, passages], means over tokens of the base model and of every edit, chunked over positions."""
    targets = batch.targets
    places, count = targets.predictors, len(targets.sequences)
    # A position may predict for several passages that begin alike; one (position, passage) pair at a time keeps weights exact.
    pair_place = torch.from_numpy(places[targets.predictor])
    token, owner = torch.from_numpy(targets.token), torch.from_numpy(targets.sequence)
    sums = torch.zeros(len(metrics) * (1 + len(hidden)), count)
    vocabulary: Any = model.head.weight
    chunk = max(1, HEAD_CHUNK // len(vocabulary))
    for start in range(0, len(token), chunk):
        span = slice(start, start + chunk)
        where = pair_place[span].to(hidden.device)
        mine = model.logits(original[0, where]).log_softmax(-1)
        pick = token[span].to(mine.device)
        nothing, values = mine.new_zeros(len(pick)), []
        same = Tokens(mine, mine, pick)
        values.append(torch.stack([one.values(same) if one.of_base else nothing for one in metrics]))
        for rows in hidden:
            tokens = Tokens(mine, model.logits(rows[where]).log_softmax(-1), pick)
            values.append(torch.stack([one.values(tokens) for one in metrics]))
        sums.index_add_(1, owner[span], torch.stack(values, dim=1).flatten(0, 1).cpu())
    return (sums / torch.from_numpy(targets.lengths)).view(len(metrics), 1 + len(hidden), count)
