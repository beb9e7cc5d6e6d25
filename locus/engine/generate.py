"""Let the model speak, as it is and under any number of edits, all in one batch.

What the prompts begin with alike (a primer, the system part of a chat template) runs once for every edit that changes it, and
once for all edits that act on the answer only, since to those the prompt is the base model's; so are their questions. Rows are
(edit, prompt) pairs in any mix: each leaves when it has finished, and the next takes its place.

Greedy by default, without the penalties or temperatures a model's generation_config may carry: these are part of `Speech`, so
that they are part of the record.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from locus.behaviours.encoding import unclosed
from locus.behaviours.prompts import PromptFormat
from locus.edits.base import Edit
from locus.engine.bank import BankState
from locus.engine.cost import Tally, Work, continued
from locus.engine.slots import RowBank, Slots, TokenReader
from locus.engine.speech import WholeReader, said
from locus.errors import UserError
from locus.models.model import Model
from locus.models.shortcuts import CACHE, SPEECH
from locus.sites.site import Location

ROWS = 64  # texts at once on the CPU: the weights are read once a token for all of them
REFILL = 4  # a quarter of the rows must be free before new ones join: joining copies the cache
NEW_QUESTION = re.compile(r"\bQ:")

Stopped = Literal["end", "question", "length"]


@dataclass(frozen=True)
class Speech:
    """How a model is let speak.

    Attributes:
        max_new_tokens: the most tokens a text may have.
        sample: draw tokens, instead of taking the likeliest.
        temperature: divides the logits; only when drawing.
        top_p: draw from the fewest tokens that hold this much probability; only when drawing.
        seed: of the draws. A prompt's draws depend on the seed and the prompt alone: all edits share them, which pairs them.

    Raises:
        UserError: if a value cannot be used.
    """

    max_new_tokens: int = 50
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise UserError(
                "max_new_tokens >= 1, temperature > 0 and 0 < top_p <= 1",
                f"{self.max_new_tokens}, {self.temperature} and {self.top_p}",
                "Set sample to false for greedy decoding.",
            )


@dataclass(frozen=True)
class Generation:
    """What was said to one prompt.

    Attributes:
        text: without special tokens and outer blanks, cut where the model began a new question.
        tokens: every token generated, the one that ended the text included.
        stopped: by an end token, by a new question of the model's own, or at the greatest length.
    """

    text: str
    tokens: tuple[int, ...]
    stopped: Stopped


@dataclass
class _Row:
    """A text in the making: which edit and prompt, the prompt's tokens, random numbers in [0, 1), one a token, if drawn."""

    edit: int
    prompt: int
    ids: tuple[int, ...]
    draws: Sequence[float] = ()
    tokens: list[int] = field(default_factory=list)
    stopped: Stopped | None = None

    @property
    def position(self) -> int:
        """Of the last token so far."""
        return len(self.ids) + len(self.tokens) - 1

    @property
    def last(self) -> int:
        """The last token so far."""
        return self.tokens[-1] if self.tokens else self.ids[-1]


def generate(
    model: Model,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    text: PromptFormat,
    settings: Speech | None = None,
    rows: int = ROWS,
    progress: Callable[[float], None] | None = None,
    tally: Tally | None = None,
) -> list[list[Generation]]:
    """What the model says to every prompt under every edit.

    Args:
        model: the model.
        prompts: texts up to the answer, as `text.prompt(question)` gives them.
        edits: the edits; none for the base model.
        text: the format of the prompts.
        settings: how it speaks; greedy, 50 tokens by default.
        rows: the most texts at once, which bounds the memory of the cache.
        progress: told the fraction of texts done.
        tally: where each edit's tokens are counted: those of its prompts and of what it says, once each.

    Returns:
        [edits][prompts], in the order given; one list for the base model if there are no edits.

    Raises:
        UserError: if a prompt has no token, or leaves no room for the answer in the model's context.
    """
    assert rows >= 1, "at least one row"
    settings = settings or Speech()
    tokens = [coded(model, prompt, text, settings.max_new_tokens) for prompt in prompts]
    draws = [_draws(prompt, settings) for prompt in prompts]
    base = Edit("base", Location(()), model.layout, {})
    generations: list[list[Generation]] = []
    all_edits = list(edits) or [base]
    ends = frozenset(end_tokens(model, text))
    finished, tally = itertools.count(1), tally or Tally(len(all_edits))

    def tick() -> None:
        if progress is not None:
            progress(next(finished) / (len(prompts) * len(all_edits)))

    # Every edit holds the states of the shared beginning, so their number is bounded like that of the rows.
    for first in range(0, len(all_edits) if prompts else 0, rows):
        group = [*all_edits[first : first + rows], base]
        batch = _way(model)(model, group, settings, ends, rows)
        batch.tally, batch.first = tally, first
        pending = [
            _Row(edit, prompt, tokens[prompt], draws[prompt]) for prompt in range(len(prompts)) for edit in range(len(group) - 1)
        ]
        generations += batch.run(pending, tick)
    return generations or [[] for _ in all_edits]


def _way(model: Model) -> "type[GenerationBatch]":
    """How a model speaks: with slots where it was seen to say the same, else a prompt at a time."""
    if not model.checked:
        draw = torch.Generator().manual_seed(0)
        known = int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        texts = [torch.randint(0, known, (length,), generator=draw).tolist() for length in (9, 14)]
        for shortcut in (SPEECH, CACHE):
            if shortcut not in model.off and (shortcut == CACHE or model.trees):
                _try(model, texts, shortcut)
    return WholeTextsBatch if SPEECH in model.off or not model.trees else GenerationBatch


def _try(model: Model, texts: Sequence[Sequence[int]], shortcut: str) -> None:
    try:
        one, other = said(model, texts, shortcut)
        gap = float((one - other).abs().nan_to_num(math.inf).max())
        reason = "" if gap <= (2e-3 if model.dtype == torch.float32 else 0.6) else f"log-probs differ by {gap:.1e}"
    except Exception as error:  # whatever an architecture does with a cache that is not its own
        reason = f"{type(error).__name__}: {str(error)[:160]}"
    if reason:
        model.do_without(shortcut, reason)


class GenerationBatch:
    """Edits that speak together; the last of them is the base model."""

    def __init__(self, model: Model, edits: Sequence[Edit], settings: Speech, ends: frozenset[int], rows: int):
        self.model, self.settings, self.ends, self.rows = model, settings, ends, rows
        self.bank = RowBank(edits)
        self.reader = TokenReader(model)
        self.bank_state = BankState(0)
        self.tally, self.first = Tally(len(edits)), 0
        # Under an edit of the answer alone, all of the prompt but its last token is the base model's.
        self.source = [len(edits) - 1 if edit.positions == "answer" else index for index, edit in enumerate(edits)]

    def run(self, pending: list[_Row], tick: Callable[[], None]) -> list[list[Generation]]:
        """Finish all rows, with a tick for each; [edits][prompts]."""
        generations = [
            [Generation("", (), "end")] * len({row.prompt for row in pending}) for _ in range(len(self.bank.edits) - 1)
        ]
        pending.sort(key=lambda row: (len(row.ids), row.prompt))
        slots = max(len(row.ids) for row in pending) + self.settings.max_new_tokens
        live: list[_Row] = []
        with torch.no_grad(), self.bank.attach(self.model) as self.bank_state, self.reader.attached():
            common, beginning, places = self._beginning(pending, slots)
            cache = Slots(self.model.layout.n_layers, slots)
            while live or pending:
                staying = [index for index, row in enumerate(live) if row.stopped is None]
                free = self.rows - len(staying)
                joining = pending[:free] if free * REFILL >= self.rows or not staying else []
                if joining or len(live) - len(staying) > len(live) // REFILL:
                    del pending[: len(joining)]
                    pieces = [(cache, staying)]
                    if joining:
                        pieces.append(self._questions(joining, common, beginning, places, slots))
                    live = [live[index] for index in staying] + joining
                    cache = Slots.gather(pieces)
                    self.bank.seat(self.bank_state, [row.edit for row in live])
                for row in self._step(live, cache):
                    generations[row.edit][row.prompt] = self._finished(row)
                    tick()
                if all(row.stopped for row in live):
                    live = []
        return generations

    def note(self, edits: Sequence[int], work: Work) -> None:
        """Charge work to edits by their numbers here."""
        self.tally.add("speak", [self.first + edit for edit in edits], work)

    def _beginning(self, pending: Sequence[_Row], slots: int) -> tuple[int, Slots | None, dict[int, int]]:
        """What all prompts begin with, in tokens, its states under every source of prompts, and the row of each source."""
        first, last = min(row.ids for row in pending), max(row.ids for row in pending)
        n_shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
        common = min(n_shared, *(len(row.ids) - 1 for row in pending))
        if common == 0:
            return 0, None, {}
        speakers = {row.edit: self.source[row.edit] for row in pending}
        sources = sorted(set(speakers.values()))
        for source in sources:
            edits = [edit for edit, own in speakers.items() if own == source]
            self.note(edits, continued(0, common, self.model.layout.n_layers))
        cache = Slots(self.model.layout.n_layers, slots)
        self.bank.seat(self.bank_state, sources)
        self.reader.read(self._tensor([first[:common]] * len(sources)), 0, cache)
        return common, cache, {source: place for place, source in enumerate(sources)}

    def _questions(
        self, joining: Sequence[_Row], common: int, beginning: Slots | None, places: dict[int, int], slots: int
    ) -> tuple[Slots, list[int]]:
        """States of the rows' prompts without their last tokens, once for each source and prompt; and each row's place there."""
        source_and_prompt = [(self.source[row.edit], row.prompt) for row in joining]
        unique = {pair: place for place, pair in enumerate(dict.fromkeys(source_and_prompt))}
        for pair in unique:
            alike = [row for row, own in zip(joining, source_and_prompt, strict=True) if own == pair]
            work = continued(common, len(alike[0].ids) - 1 - common, self.model.layout.n_layers)
            self.note([row.edit for row in alike], work)
        bodies = {pair: row.ids[common:-1] for pair, row in zip(source_and_prompt, joining, strict=True)}
        length = max(len(body) for body in bodies.values())
        cache = Slots(self.model.layout.n_layers, slots)
        if beginning is not None:
            cache = Slots.gather([(beginning, [places[source] for source, _ in unique])])
        # Prompts of a single token have nothing to be read beforehand, yet the cache must have their rows.
        padded = [(*bodies[pair], *[0] * (max(length, int(beginning is None)) - len(bodies[pair]))) for pair in unique]
        if padded[0]:
            self.bank.seat(self.bank_state, [source for source, _ in unique])
            self.reader.read(self._tensor(padded), common, cache)
        return cache, [unique[pair] for pair in source_and_prompt]

    def _step(self, live: list[_Row], cache: Slots) -> list[_Row]:
        """One more token for every row; the rows that end with it."""
        tokens = self._tensor([[row.last] for row in live])
        # A finished row that waits to be cleared away stays at its last token.
        logits = self.reader.next_logits(tokens, [row.position for row in live], cache)
        uniform = None
        if self.settings.sample:
            uniform = torch.tensor([row.draws[min(len(row.tokens), len(row.draws) - 1)] for row in live], device=logits.device)
        next_tokens = choose_tokens(logits, self.settings, uniform).tolist()
        ended = []
        for row, token in zip(live, next_tokens, strict=True):
            if row.stopped is None:
                row.tokens.append(token)
                row.stopped = self._stop(row)
                if row.stopped is not None:
                    ended.append(row)
        return ended

    def _stop(self, row: _Row) -> Stopped | None:
        if row.tokens[-1] in self.ends:
            return "end"
        if NEW_QUESTION.search(self._text(row.tokens)):
            return "question"
        return "length" if len(row.tokens) >= self.settings.max_new_tokens else None

    def _finished(self, row: _Row) -> Generation:
        assert row.stopped is not None, "only finished rows are read"
        count = len(row.tokens)
        self.note([row.edit], continued(len(row.ids) - 1, count, self.model.layout.n_layers, scored=count))
        words = self._text(row.tokens)
        cut = NEW_QUESTION.search(words) if row.stopped == "question" else None
        return Generation((words[: cut.start()] if cut else words).strip(), tuple(row.tokens), row.stopped)

    def _text(self, tokens: Sequence[int]) -> str:
        decoded: str = self.model.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return decoded

    def _tensor(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(tokens, dtype=torch.long, device=self.model.device)


class WholeTextsBatch(GenerationBatch):
    """Edits that speak together to one prompt after the other, as `speech` has it."""

    def run(self, pending: list[_Row], tick: Callable[[], None]) -> list[list[Generation]]:
        """Finish all rows, with a tick for each; [edits][prompts]."""
        prompts = sorted({row.prompt for row in pending})
        generations = [[Generation("", (), "end")] * len(prompts) for _ in range(len(self.bank.edits) - 1)]
        whole = WholeReader(self.model)
        self.reader: Any = whole
        with torch.no_grad(), self.bank.attach(self.model) as self.bank_state:
            whole.bank_state = self.bank_state
            for prompt in prompts:
                live = [row for row in pending if row.prompt == prompt]
                before = len(live[0].ids) - 1
                self.note([row.edit for row in live], continued(0, before, self.model.layout.n_layers))
                self.bank.seat(self.bank_state, [self.source[row.edit] for row in live])
                texts: Any = whole.read(self._tensor([row.ids[:-1] for row in live]))
                self.bank.seat(self.bank_state, [row.edit for row in live])
                while not all(row.stopped for row in live):
                    for row in self._step(live, texts):
                        generations[row.edit][row.prompt] = self._finished(row)
                        tick()
        return generations


def choose_tokens(logits: Tensor, settings: Speech, uniform: Tensor | None = None) -> Tensor:
    """The next token of every row.

    Args:
        logits: [rows, vocabulary].
        settings: greedy, or how to draw.
        uniform: [rows] in [0, 1), needed to draw: the same number gives the same rank in similar distributions.

    Returns:
        [rows] token ids.
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    probs, order = (logits / settings.temperature).softmax(dim=-1).double().sort(dim=-1, descending=True, stable=True)
    before = probs.cumsum(dim=-1) - probs
    nucleus = torch.where(before < settings.top_p, probs, 0.0)
    heights = nucleus.cumsum(dim=-1)
    rank = torch.searchsorted(heights, uniform.double()[:, None] * heights[:, -1:], right=True)
    # Rounding may put the product at the very top; the last kept token is what it means there.
    rank = torch.minimum(rank, (nucleus > 0).sum(dim=-1, keepdim=True) - 1)
    return order.gather(1, rank)[:, 0]


def end_tokens(model: Model, text: PromptFormat) -> set[int]:
    """The tokens that end a text: those the model and the tokenizer name, and what a chat template puts after an answer."""
    tokenizer, ids = model.tokenizer, set()
    for owner in (tokenizer, model.hf.config, getattr(model.hf, "generation_config", None)):
        own_ids = getattr(owner, "eos_token_id", None)
        ids |= set(own_ids) if isinstance(own_ids, list | tuple) else set() if own_ids is None else {int(own_ids)}
    after = tokenizer(text.closing, add_special_tokens=False)["input_ids"]
    return ids | ({after[0]} & set(tokenizer.all_special_ids) if after else set())


def coded(model: Model, prompt: str, text: PromptFormat, room: int = 0) -> tuple[int, ...]:
    """A prompt's tokens.

    Raises:
        UserError: if there is none, or no `room` for so many more in the model's context.
    """
    ids = unclosed(model.tokenizer, prompt, text.special_tokens).ids
    if not ids:
        raise UserError("a prompt of at least one token", repr(prompt), "Use a prompt format with text before the answer.")
    if len(ids) + room > model.context:
        raise UserError(
            f"a prompt that leaves {room} of the model's {model.context} tokens for the answer",
            f"{len(ids)} tokens, which begin {prompt[:60]!r}",
            "Shorten the prompt or its primer, or lower max_new_tokens.",
        )
    return tuple(ids)


def _draws(prompt: str, settings: Speech) -> Sequence[float]:
    """Random numbers in [0, 1) for one prompt, one a token; none when greedy."""
    if not settings.sample:
        return ()
    key = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big")
    numbers: list[float] = np.random.default_rng([settings.seed, key]).random(settings.max_new_tokens).tolist()
    return numbers
