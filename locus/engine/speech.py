"""Speech without slots: one prompt after the other, whose rows, the edits, are of one length all the way.

So a cache may keep whatever an architecture keeps, states of recurrences too, and is the model's own. Where that does not say
what the model says of the whole text, there is none, and the text is read anew for every token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.edits.base import Edit, Terms
from locus.engine.bank import BankState
from locus.engine.slots import RowBank, Slots, TokenReader
from locus.models.model import Model
from locus.models.shortcuts import CACHE, SPEECH
from locus.sites.kind import default
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace


@dataclass
class WholeTexts:
    """What was read so far of texts of one length.

    Attributes:
        tokens: [rows, T], all of them.
        prompt: how many of them are of the prompt, its last left out: there, edits of the answer alone do not act.
        past: the model's own cache of them; None where there is none.
    """

    tokens: Tensor
    prompt: int = 0
    past: Any = None


class WholeReader:
    """Runs texts of one length, with the model's own cache or without any; in place of a `TokenReader`."""

    def __init__(self, model: Model):
        self.model, self.cached = model, CACHE not in model.off
        self.bank_state = BankState(0)

    @contextmanager
    def attached(self) -> Iterator["WholeReader"]:
        """As a `TokenReader`'s, of which nothing need be attached."""
        yield self

    def read(self, tokens: Tensor) -> WholeTexts:
        """Take in what leads to the last token of a prompt, [rows, T]."""
        texts = WholeTexts(tokens, tokens.shape[1])
        if self.cached and tokens.shape[1]:
            texts.past = self._run(tokens, texts).past_key_values
        return texts

    def next_logits(self, tokens: Tensor, positions: Sequence[int], texts: WholeTexts) -> Tensor:
        """Logits [rows, vocabulary] in float32 of what follows one token more a row, [rows, 1]."""
        texts.tokens = torch.cat([texts.tokens, tokens], dim=1)
        if self.cached:
            output = self._run(tokens, texts)
            texts.past = output.past_key_values
        else:
            self.bank_state.where = (torch.arange(texts.tokens.shape[1]) >= texts.prompt).float()
            output = self._run(texts.tokens, texts)
            self.bank_state.where = None
        logits: Tensor = output.logits
        return logits[:, -1].float()

    def _run(self, tokens: Tensor, texts: WholeTexts) -> Any:
        if not self.cached:
            return self.model.hf(input_ids=tokens, use_cache=False)
        seen = torch.ones_like(texts.tokens)
        known = {} if texts.past is None else {"past_key_values": texts.past}
        return self.model.hf(input_ids=tokens, attention_mask=seen, use_cache=True, **known)


def said(model: Model, texts: Sequence[Sequence[int]], shortcut: str, space: SiteSpace | None = None) -> tuple[Tensor, Tensor]:
    """Log-probs of what follows texts that went on by two tokens, edited and not; and the same of texts that are read whole.

    Args:
        model: the model.
        texts: two, of unlike lengths.
        shortcut: SPEECH, by slots for both texts at once; or CACHE, by the model's own cache for one.
        space: of the sites of which one is edited; heads by default.
    """
    base = Edit("base", Location(()), model.layout, {})
    edit = _some_shift(space or SiteSpace.of(default(), model.layout))
    if shortcut == CACHE:
        texts = [texts[-1], texts[-1]]
    bank = RowBank([edit, base])
    tokens = [torch.tensor(text, device=model.device)[None] for text in texts]
    with torch.no_grad(), bank.attach(model) as bank_state:
        whole = []
        for number, text in enumerate(tokens):
            bank.seat(bank_state, [number])
            whole.append(model.hf(input_ids=text, use_cache=False).logits[0, -1].float())
        bank.seat(bank_state, [0, 1])
        went_on = _slots(model, tokens) if shortcut == SPEECH else _own(model, tokens, bank_state)
    return went_on.log_softmax(-1), torch.stack(whole).log_softmax(-1)


def _slots(model: Model, tokens: Sequence[Tensor]) -> Tensor:
    reader, lengths = TokenReader(model), [text.shape[1] for text in tokens]
    cache = Slots(model.layout.n_layers, max(lengths))
    padded = torch.zeros(len(tokens), max(lengths) - 2, dtype=torch.long, device=model.device)
    for row, text in enumerate(tokens):
        padded[row, : lengths[row] - 2] = text[0, :-2]
    with reader.attached():
        reader.read(padded, 0, cache)
        cache = Slots.gather([(cache, [0, 1])])
        for back in (2, 1):
            step = torch.cat([text[:, -back, None] for text in tokens])
            logits = reader.next_logits(step, [length - back for length in lengths], cache)
    return logits


def _own(model: Model, tokens: Sequence[Tensor], bank_state: BankState) -> Tensor:
    reader = WholeReader(model)
    reader.bank_state = bank_state
    both = torch.cat(list(tokens))
    texts = reader.read(both[:, :-2])
    for back in (2, 1):
        logits = reader.next_logits(both[:, -back, None], [], texts)
    return logits


def _some_shift(space: SiteSpace) -> Edit:
    """An edit that changes what is said: a shift at some site, drawn from a seed."""
    layer, sizes = space.layers[len(space.layers) // 2], space.sizes
    vector = torch.randn(sizes.width(space.kind.point, layer), generator=torch.Generator().manual_seed(2))
    return Edit("shift", Location.of([Site(space.kind.name, layer)]), sizes, {layer: Terms(shift=vector)})
