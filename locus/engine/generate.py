"""Let the model speak, as it is and under any number of edits, all in one batch.

Greedy by default, without the penalties or temperatures a model's generation_config may carry: these are part of `Speech`, so
that they are part of the record.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from locus.behaviours.encoding import unclosed
from locus.behaviours.prompts import PromptFormat
from locus.edits.base import Edit
from locus.engine.cost import Tally
from locus.engine.decode import Generation, Row, Speakers
from locus.engine.speech import ALIKE, ALIKE_ROUNDED, WholeSpeakers, said
from locus.errors import UserError
from locus.models.model import Model
from locus.models.shortcuts import CACHE, SPEECH
from locus.sites.positions import ALL, ANSWER, is_span
from locus.sites.site import Location

EDITS = 64  # at once: every edit holds the states of what the prompts begin with


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


def generate(
    model: Model,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    text: PromptFormat,
    settings: Speech | None = None,
    rows: int | None = None,
    progress: Callable[[float], None] | None = None,
    tally: Tally | None = None,
    marks: Sequence[int] = (),
) -> list[list[Generation]]:
    """What the model says to every prompt under every edit.

    Args:
        model: the model.
        prompts: texts up to the answer, as `text.prompt(question)` gives them.
        edits: the edits; none for the base model.
        text: the format of the prompts.
        settings: how it speaks; greedy, 50 tokens by default.
        rows: the most texts at once; by default as many as pay, within half a GiB of keys and values on a CPU and 8 on a GPU.
        progress: told the fraction of texts done.
        tally: where each edit's tokens are counted: those of its prompts and of what it says, once each.
        marks: of each prompt, the last token of its marked span, where edits act there.

    Returns:
        [edits][prompts], in the order given; one list for the base model if there are no edits.

    Raises:
        UserError: if a prompt has no token, or leaves no room for the answer in the model's context.
    """
    assert rows is None or rows >= 1, "at least one row"
    assert marks or not any(is_span(edit.positions) for edit in edits), "edits at a span's last token are told which one that is"
    settings = settings or Speech()
    tokens = [coded(model, prompt, text, settings.max_new_tokens) for prompt in prompts]
    draws = [_draws(prompt, settings) for prompt in prompts]
    base = Edit("base", Location(()), model.layout, {})
    all_edits = list(edits) or [base]
    said_to: list[dict[int, Generation]] = [{} for _ in all_edits]
    ends = frozenset(end_tokens(model, text))
    counted, tally = itertools.count(1), tally or Tally(len(all_edits))
    for first in range(0, len(all_edits) if prompts else 0, EDITS):
        group = [*all_edits[first : first + EDITS], base]
        speakers = _way(model, group)(model, group, partial(_chosen, settings), ends, settings.max_new_tokens, rows)
        speakers.tally, speakers.first = tally, first

        def finished(row: Row, generation: Generation, first: int = first) -> None:
            said_to[first + row.edit][row.prompt] = generation
            if progress is not None:
                progress(next(counted) / (len(prompts) * len(all_edits)))

        pairs = itertools.product(range(len(prompts)), range(len(group) - 1))
        marked = dict(enumerate(marks))
        rows_of = [Row(edit, prompt, tokens[prompt], draws[prompt], marked.get(prompt)) for prompt, edit in pairs]
        speakers.run(rows_of, finished)
    return [[of_edit[prompt] for prompt in range(len(prompts))] for of_edit in said_to]


def _chosen(settings: Speech, logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row that speaks."""
    uniform = None
    if settings.sample:
        numbers = [row.draws[min(len(row.tokens), len(row.draws) - 1)] for row in rows]
        uniform = torch.tensor(numbers, device=logits.device)
    tokens: list[int] = choose_tokens(logits, settings, uniform).tolist()
    return tokens


def _way(model: Model, edits: Sequence[Edit]) -> type[Speakers]:
    """How a model speaks: with slots where it was seen to say the same, else a prompt at a time, as under edits at one token."""
    if not model.checked or model.speaks is None:
        draw = torch.Generator().manual_seed(0)
        known = int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        common, *others = (torch.randint(0, known, (length,), generator=draw).tolist() for length in (4, 5, 10))
        texts = [[*common, *other] for other in others]
        for shortcut in (SPEECH, CACHE):
            seen = model.checked and (shortcut == CACHE or model.speaks is not None)
            if shortcut not in model.off and not seen and (shortcut == CACHE or model.trees):
                _try(model, texts, shortcut)
    one_by_one = any(edit.positions not in (ALL, ANSWER) for edit in edits)
    return WholeSpeakers if one_by_one or SPEECH in model.off or not model.trees else Speakers


def _try(model: Model, texts: Sequence[Sequence[int]], shortcut: str) -> None:
    try:
        one, other = said(model, texts, shortcut)
        gap = float((one - other).abs().nan_to_num(math.inf).max())
        reason = "" if gap <= (ALIKE if model.dtype == torch.float32 else ALIKE_ROUNDED) else f"log-probs differ by {gap:.1e}"
    except Exception as error:  # whatever an architecture does with a cache that is not its own
        reason = f"{type(error).__name__}: {str(error)[:160]}"
    if reason:
        model.do_without(shortcut, reason)


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
