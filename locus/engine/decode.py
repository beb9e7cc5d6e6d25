"""Texts in the making: rows of a batch, each an edit and a prompt, which leave when they end and make room for the next.

What the prompts begin with alike (a primer, the system part of a chat template) is read once for every edit that changes it, and
once for all edits that act on the answer only, since to those the prompt is the base model's; so are their questions. Below an
edit's first layer its prompts are the base model's too. Nothing is run for a row that has ended, and to join costs a copy of a
question's states.

On a CPU the texts are dealt to as many threads as torch has: two products at once do not wait for one another, two threads on one
do.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from locus.edits.base import Edit
from locus.engine.cost import Tally, Work, continued
from locus.engine.reader import Beginning, Texts, TokenReader
from locus.engine.slots import RowBank, Slots
from locus.machine.threads import thread_pool
from locus.models.model import Model
from locus.models.shortcuts import THREADS
from locus.sites.positions import ANSWER, LAST

ROWS = {"cpu": 48, "cuda": 256}  # texts of a thread at once: a step reads all weights, once for all of them
HELD = {"cpu": 1 << 29, "cuda": 1 << 33}  # bytes of keys and values of all texts at once
FEW = 8  # texts of a thread, below which another does not pay
READ = 1024  # tokens of questions that are read at once
NEW_QUESTION = re.compile(r"\bQ:")

Stopped = Literal["end", "question", "length"]


@dataclass
class Row:
    """A text in the making.

    Attributes:
        edit: whose.
        prompt: of which number.
        ids: the prompt's tokens.
        draws: random numbers in [0, 1), one a token, if drawn.
        mark: the last token of the prompt's marked span, if edits act there.
        tokens: so far.
        stopped: why it ended, if it did.
    """

    edit: int
    prompt: int
    ids: tuple[int, ...]
    draws: Sequence[float] = ()
    mark: int | None = None
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


@dataclass(frozen=True)
class Asked:
    """Rows that are asked together: their questions, ready to be read.

    Attributes:
        rows: in the order in which they join.
        texts: what stands between the beginning and each prompt's last token; None where nothing does.
        sources: edit, as far as prompts are concerned, and text of every state that is read.
        places: of each row's among these.
    """

    rows: list[Row]
    texts: Texts | None
    sources: list[tuple[int, int]]
    places: list[int]


class Speakers:
    """Edits that speak together; the last of them is the base model.

    Args:
        model: the model.
        edits: the edits.
        choose: the next tokens of rows by their logits [rows, vocabulary].
        ends: tokens that end a text.
        longest: the most tokens of a text.
        most: the most texts at once; by default as many as `ROWS` and `HELD` allow.

    Attributes:
        tally: where the work is counted.
        first: what its number of the first edit is.
        slots: tokens of the longest text that may come of it.
    """

    def __init__(
        self,
        model: Model,
        edits: Sequence[Edit],
        choose: Callable[[Tensor, Sequence[Row]], list[int]],
        ends: frozenset[int],
        longest: int,
        most: int | None = None,
    ):
        self.model, self.choose, self.ends, self.longest, self.most = model, choose, ends, longest, most
        self.bank, self.base = RowBank(edits), len(edits) - 1
        self.tally, self.first, self.slots = Tally(len(edits)), 0, 0
        # Under an edit of the answer alone, all of the prompt but its last token is the base model's.
        self.source = [self.base if edit.positions in (ANSWER, LAST) else index for index, edit in enumerate(edits)]
        self.lock = threading.Lock()

    def run(self, pending: Sequence[Row], finished: Callable[[Row, Generation], None]) -> None:
        """Bring all rows to their end, and say so of each."""
        pending = sorted(pending, key=lambda row: (len(row.ids), row.prompt))
        self.slots = len(pending[-1].ids) + self.longest
        with torch.no_grad(), self.bank.attach(self.model) as bank_state:
            reader = TokenReader(self.model, self.bank, bank_state)
            with reader.attached():
                lead = self._beginning(reader, pending)
                shares = self._dealt(pending)
                asked: Iterable[Iterable[Asked]] = (self._asked(reader, share, lead) for share in shares)
                # How layers are called is asked of the model itself, which none may be running meanwhile.
                asked = asked if len(shares) == 1 else [list(one) for one in asked]
                with thread_pool(len(shares)) as each:
                    for _ in each(partial(self._speak, reader, lead, finished, len(shares)), asked):
                        pass

    def step(self, reader: Any, live: Sequence[Row], cache: Any) -> list[Row]:
        """One more token for every row that has not ended; those that end with it."""
        tokens = torch.tensor([[row.last] for row in live], device=self.model.device)
        chosen = self.choose(reader.next_logits(tokens, [row.position for row in live], cache), live)
        ended = []
        for row, token in zip(live, chosen, strict=True):
            if row.stopped is None:
                row.tokens.append(token)
                row.stopped = self._stop(row)
                ended += [row] if row.stopped else []
        return ended

    def note(self, edits: Sequence[int], work: Work) -> None:
        """Charge work to edits by their numbers here."""
        self.tally.add("speak", [self.first + edit for edit in edits], work)

    def said(self, row: Row) -> Generation:
        """What a row that has ended says."""
        assert row.stopped is not None, "only finished rows are read"
        count = len(row.tokens)
        self.note([row.edit], continued(len(row.ids) - 1, count, self.model.layout.n_layers, scored=count))
        words = self._text(row.tokens)
        cut = NEW_QUESTION.search(words) if row.stopped == "question" else None
        return Generation((words[: cut.start()] if cut else words).strip(), tuple(row.tokens), row.stopped)

    def _stop(self, row: Row) -> Stopped | None:
        if row.tokens[-1] in self.ends:
            return "end"
        if NEW_QUESTION.search(self._text(row.tokens)):
            return "question"
        return "length" if len(row.tokens) >= self.longest else None

    def _text(self, tokens: Sequence[int]) -> str:
        decoded: str = self.model.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return decoded

    def _beginning(self, reader: TokenReader, pending: Sequence[Row]) -> Beginning | None:
        """What all prompts begin with, under every source of prompts."""
        first, last = min(row.ids for row in pending), max(row.ids for row in pending)
        n_shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
        common = min(n_shared, *(len(row.ids) - 1 for row in pending))
        if common == 0:
            return None
        self._charge(reader, {row.edit for row in pending}, 0, common)
        sources = sorted({self.source[row.edit] for row in pending})
        cache = reader.read(reader.texts([first[:common]]), [(source, 0) for source in sources], self.base)
        rows = {source: place for place, source in enumerate(sources)}
        # Below its first layer an edit's states are the base model's; above the last of these nobody asks for the base model's.
        late = max(sources, key=lambda source: (self.begins(reader, source), source == self.base))
        return Beginning(first[:common], cache, {self.base: rows[late], **rows})

    def begins(self, reader: TokenReader, source: int) -> int:
        """The layer from which on a source's prompts are not the base model's."""
        own = self.bank.first_layer(source)
        return 0 if not reader.layered else self.model.layout.n_layers if own is None else own

    def _charge(self, reader: TokenReader, edits: Collection[int], start: int, count: int) -> None:
        """Charge the reading of a text: a source's own layers to its edits, and what lies below to all that share it."""
        begins, n_layers = {edit: self.begins(reader, self.source[edit]) for edit in sorted(edits)}, self.model.layout.n_layers
        for source in sorted({self.source[edit] for edit in begins}):
            own = [edit for edit in begins if self.source[edit] == source]
            self.note(own, continued(start, count, n_layers - begins[own[0]]))
        for lower, upper in pairwise(sorted({0, *begins.values()})):
            shared = replace(continued(start, count, upper - lower), tokens=0)
            self.note([edit for edit, begin in begins.items() if begin >= upper], shared)

    def _dealt(self, pending: Sequence[Row]) -> list[list[Row]]:
        """Rows for each thread, in order; those of one prompt stay together."""
        threads = torch.get_num_threads() if self.model.device.type == "cpu" and THREADS not in self.model.off else 1
        prompts = list(dict.fromkeys(row.prompt for row in pending))
        count = max(1, min(threads, len(prompts), len(pending) // FEW))
        share = {prompt: place % count for place, prompt in enumerate(prompts)}
        return [[row for row in pending if share[row.prompt] == number] for number in range(count)]

    def _asked(self, reader: TokenReader, pending: Sequence[Row], lead: Beginning | None) -> Iterator[Asked]:
        """Rows in portions whose questions are read together, once for each source and prompt."""
        common, waiting = len(lead.tokens) if lead else 0, deque(pending)
        while waiting:
            rows: list[Row] = []
            sources: dict[tuple[int, int], int] = {}
            prompts: dict[int, int] = {}
            while waiting:
                row = waiting[0]
                pair = (self.source[row.edit], prompts.get(row.prompt, len(prompts)))
                # In the order of their lengths, so that none is longer than the next.
                if rows and len({*sources, pair}) * (len(row.ids) - 1 - common) > READ:
                    break
                prompts.setdefault(row.prompt, len(prompts))
                sources.setdefault(pair, len(sources))
                rows.append(waiting.popleft())
            bodies = {prompts[row.prompt]: row.ids[common:-1] for row in rows}
            for prompt, text in prompts.items():
                edits = {row.edit for row in rows if row.prompt == prompt}
                self._charge(reader, edits, common, len(bodies[text]))
            texts = reader.texts(list(bodies.values()), lead.tokens if lead else ()) if any(bodies.values()) else None
            places = [sources[self.source[row.edit], prompts[row.prompt]] for row in rows]
            yield Asked(rows, texts, list(sources), places)

    def _speak(
        self,
        reader: TokenReader,
        lead: Beginning | None,
        finished: Callable[[Row, Generation], None],
        threads: int,
        asked: Iterable[Asked],
    ) -> None:
        """Bring the rows of a thread to their end."""
        with torch.no_grad():
            stream = _Stream(self, reader, lead, iter(asked), threads)
            while stream.filled():
                ended = stream.step()
                with self.lock:
                    for row in ended:
                        finished(row, self.said(row))


class _Stream:
    """The rows of one thread: those that speak are the first of the cache, and others take the places of those that end.

    Args:
        speakers: whose rows.
        reader: reads for them.
        lead: what all prompts begin with.
        asked: the rows, in portions.
        threads: how many do likewise.
    """

    def __init__(self, speakers: Speakers, reader: TokenReader, lead: Beginning | None, asked: Iterator[Asked], threads: int):
        self.speakers, self.reader, self.lead, self.asked, self.threads = speakers, reader, lead, asked, threads
        self.live: list[Row] = []
        self.portion: Asked | None = None  # whose first rows have joined
        self.joined = 0
        self.states: Slots | None = None  # of its questions
        self.cache: Slots | None = None

    def filled(self) -> bool:
        """Let rows join as long as there is room; whether any row speaks."""
        changed = False
        while self._next():
            portion, joined = self.portion, self.joined
            assert portion is not None and self.cache is not None, "a portion that was read"
            if (room := self.cache.room - len(self.live)) < 1:
                break
            rows = portion.rows[joined : joined + room]
            if self.states is not None:
                self.cache.take(len(self.live), self.states, portion.places[joined : joined + room])
            self.live += rows
            self.joined += len(rows)
            changed = True
        if changed:
            self._seat()
        return bool(self.live)

    def step(self) -> list[Row]:
        """One more token for every row; the rows that ended, which have left."""
        assert self.cache is not None, "rows that speak"
        ended = self.speakers.step(self.reader, self.live, self.cache)
        for row in ended:
            place = next(place for place, one in enumerate(self.live) if one is row)
            last = self.live.pop()
            if last is not row:
                self.cache.move(len(self.live), place)
                self.live[place] = last
        if ended and self.live:
            self._seat()
        return ended

    def _next(self) -> bool:
        """Whether rows wait that have not joined; their questions are read."""
        while self.portion is None or self.joined == len(self.portion.rows):
            self.portion, self.joined, self.states = next(self.asked, None), 0, None
            if self.portion is None:
                return False
            if self.portion.texts is not None:
                self.states = self.reader.read(self.portion.texts, self.portion.sources, self.speakers.base, self.lead)
            if self.cache is None:
                self.cache = self._opened()
        return True

    def _opened(self) -> Slots:
        """A cache for as many rows as may speak at once."""
        speakers, model = self.speakers, self.speakers.model
        common = self.lead.cache if self.lead else None
        slots = speakers.slots - (common.slots if common else 0)
        known = common or self.states
        kind = model.device.type
        most = ROWS.get(kind, ROWS["cuda"])
        if speakers.most is not None:
            most = speakers.most // self.threads
        elif known is not None:
            most = min(most, HELD.get(kind, HELD["cuda"]) // (self.threads * slots * known.token_bytes))
        return Slots(model.layout.n_layers, slots, common, self.reader.ours, room=max(1, most))

    def _seat(self) -> None:
        """Say which edit and beginning each row has."""
        edits = [row.edit for row in self.live]
        self.reader.bank.seat(self.reader.bank_state, edits)
        if self.lead is not None:
            assert self.cache is not None, "rows that speak"
            self.cache.led([self.lead.rows[self.speakers.source[edit]] for edit in edits])
