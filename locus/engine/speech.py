"""Speech without slots: one prompt after the other, whose rows, the edits, are of one length all the way.

So a cache may keep whatever an architecture keeps, states of recurrences too, and is the model's own. Where that does not say
what the model says of the whole text, there is none, and the text is read anew for every token.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.edits.base import Edit, Terms
from locus.engine.bank import BankState
from locus.engine.cost import continued
from locus.engine.decode import Generation, Row, Speakers
from locus.engine.reader import Beginning, TokenReader
from locus.engine.slots import RowBank, Slots
from locus.models.model import Model
from locus.models.shortcuts import CACHE, SPEECH
from locus.sites.kind import default
from locus.sites.positions import ANSWER, LAST, is_span
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace

ALIKE, ALIKE_ROUNDED = 2e-3, 0.6  # nats between two ways of saying the same, in float32 and in fewer bits
WAYS = ((True, True), (False, True), (True, False), (False, False))  # what beginnings and lower layers are shared, most first


@dataclass
class WholeTexts:
    """What was read so far of texts of one length.

    Attributes:
        tokens: [rows, T], all of them.
        prompt: how many of them are of the prompt, its last left out: there, edits of the answer alone do not act.
        mark: the last token of the prompt's marked span; None where none is marked.
        past: the model's own cache of them; None where there is none.
    """

    tokens: Tensor
    prompt: int = 0
    mark: int | None = None
    past: Any = None


class WholeReader:
    """Runs texts of one length, with the model's own cache or without any; in place of a `TokenReader`."""

    def __init__(self, model: Model, bank_state: BankState, spans: Collection[str] = ()):
        self.model, self.bank_state, self.cached = model, bank_state, CACHE not in model.off
        self.spans = spans  # at whose last tokens edits act

    def read(self, tokens: Tensor, mark: int | None = None) -> WholeTexts:
        """Take in what leads to the last token of a prompt, [rows, T], of whose span a token is the last."""
        texts = WholeTexts(tokens, tokens.shape[1], mark)
        if self.cached and tokens.shape[1]:
            texts.past = self._run(tokens, texts).past_key_values
        return texts

    def next_logits(self, tokens: Tensor, positions: Sequence[int], texts: WholeTexts) -> Tensor:
        """Logits [rows, vocabulary] in float32 of what follows one token more a row, [rows, 1]."""
        texts.tokens = torch.cat([texts.tokens, tokens], dim=1)
        output = self._run(tokens if self.cached else texts.tokens, texts)
        texts.past = output.past_key_values if self.cached else None
        logits: Tensor = output.logits
        return logits[:, -1].float()

    def _run(self, tokens: Tensor, texts: WholeTexts) -> Any:
        """Run the last tokens of texts, or all of them; edits act where they do."""
        length = texts.tokens.shape[1]
        at = torch.arange(length - tokens.shape[1], length)
        where = {ANSWER: at >= texts.prompt, LAST: at == texts.prompt}
        where |= {} if texts.mark is None else dict.fromkeys(self.spans, at == texts.mark)
        self.bank_state.where = {name: mask.float() for name, mask in where.items()}
        try:
            if not self.cached:
                return self.model.hf(input_ids=tokens, use_cache=False)
            seen = torch.ones_like(texts.tokens)
            known = {} if texts.past is None else {"past_key_values": texts.past}
            return self.model.hf(input_ids=tokens, attention_mask=seen, use_cache=True, **known)
        finally:
            self.bank_state.where = None


class WholeSpeakers(Speakers):
    """Edits that speak together to one prompt after the other."""

    def run(self, pending: Sequence[Row], finished: Callable[[Row, Generation], None]) -> None:
        """Bring all rows to their end, and say so of each."""
        with torch.no_grad(), self.bank.attach(self.model) as bank_state:
            spans = {edit.positions for edit in self.bank.edits if is_span(edit.positions)}
            reader = WholeReader(self.model, bank_state, spans)
            for prompt in sorted({row.prompt for row in pending}):
                live = [row for row in pending if row.prompt == prompt]
                before = len(live[0].ids) - 1
                for row in live:  # each of which is run, whatever its edit leaves alone
                    self.note([row.edit], continued(0, before, self.model.layout.n_layers))
                self.bank.seat(bank_state, [self.source[row.edit] for row in live])
                ids = torch.tensor([row.ids[:-1] for row in live], dtype=torch.long, device=self.model.device)
                texts = reader.read(ids, live[0].mark)
                self.bank.seat(bank_state, [row.edit for row in live])
                while not all(row.stopped for row in live):
                    for row in self.step(reader, live, texts):
                        finished(row, self.said(row))


def said(model: Model, texts: Sequence[Sequence[int]], shortcut: str, space: SiteSpace | None = None) -> tuple[Tensor, Tensor]:
    """Log-probs of what follows texts that went on by two tokens, edited and not; and the same of texts that are read whole.

    In slots, what cannot be shared is found out on the way, and kept as `Model.speaks`.

    Args:
        model: the model.
        texts: two, of unlike lengths; what they begin with alike is read once.
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
        plain = torch.stack(whole).log_softmax(-1)
        if shortcut == SPEECH:
            return _settled(model, bank, bank_state, texts, plain), plain
        bank.seat(bank_state, [0, 1])
        return _own(model, tokens, bank_state).log_softmax(-1), plain


def _settled(model: Model, bank: RowBank, bank_state: BankState, texts: Sequence[Sequence[int]], plain: Tensor) -> Tensor:
    """What slots say with as much shared as leaves it so; what they say with nothing shared, if that is something else, too."""
    allowed = ALIKE if model.dtype == torch.float32 else ALIKE_ROUNDED
    for ways in (model.speaks,) if model.speaks else WAYS:
        model.speaks = ways
        try:
            found = _slots(TokenReader(model, bank, bank_state), texts).log_softmax(-1)
        except Exception:  # whatever an architecture does with states that are not its own
            if ways == WAYS[-1]:
                raise
            continue
        if float((found - plain).abs().nan_to_num(math.inf).max()) <= allowed:
            break
    return found


def _slots(reader: TokenReader, texts: Sequence[Sequence[int]]) -> Tensor:
    """The first text under the edit and the second as it is, in slots: their last two tokens one by one, behind the rest."""
    common = next((place for place, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), len(texts[0]))
    common = min(common, *(len(text) - 3 for text in texts))
    bodies, lead = [text[common:-2] for text in texts], None
    with reader.attached():
        if common > 0:
            states = reader.read(reader.texts([texts[0][:common]]), [(0, 0), (1, 0)], 1)
            lead = Beginning(tuple(texts[0][:common]), states, {0: 0, 1: 1})
        read = reader.read(reader.texts(bodies, texts[0][:common] if lead else ()), [(0, 0), (1, 1)], 1, lead)
        cache = Slots(
            reader.model.layout.n_layers, max(map(len, texts)) - common, lead.cache if lead else None, reader.ours, room=3
        )
        for first, places in ((0, [0]), (1, [0, 1])):  # one goes, and another takes its place: the second text, then the first
            cache.take(first, read, places)
        cache.move(2, 0)
        cache.led([1, 0])
        reader.bank.seat(reader.bank_state, [1, 0])
        for back in (2, 1):
            step = torch.tensor([[text[-back]] for text in reversed(texts)], device=reader.model.device)
            logits = reader.next_logits(step, [len(text) - back for text in reversed(texts)], cache)
    return logits.flip(0)


def _own(model: Model, tokens: Sequence[Tensor], bank_state: BankState) -> Tensor:
    reader = WholeReader(model, bank_state)
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
