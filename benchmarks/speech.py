"""Table 7: what edited models say, against transformers' own `generate` in batches of 32 with the edit hooked in.

The edits are shifts in random directions at one layer each, small enough for the texts to stay texts; greedy, at most 50 tokens.
"""

import time

import numpy as np
import torch

from benchmarks import material
from benchmarks.measure import Found, interleaved, median
from benchmarks.tables import Setting, Table
from locus.behaviours.prompts import PromptFormat, prompt_format
from locus.edits.base import Edit, Terms
from locus.engine.bank import Bank
from locus.engine.generate import Speech, end_tokens, generate
from locus.models.model import Model
from locus.sites.site import Location

SIZE = 0.02  # standard deviation of a shift's entries
BATCH = 32  # the peer's
SPEECH = Speech(max_new_tokens=50)
SAME = 0.98  # share of texts: a near tie may fall otherwise where rows are padded, since sums are taken in another order
SIZES = {"full": (32, 4, 3), "sample": (32, 2, 1)}  # prompts, edits, repeats


def speaking(setting: Setting) -> Table:
    """Table 7: tokens a second of several edited models."""
    count, edits, repeats = SIZES["full" if setting.size.repeats > 2 else "sample"]
    jobs = [setting.job(f"speech.{side}", count=count, edits=edits) for side in ("peer", "ours")]
    peer, ours = interleaved(jobs, repeats, setting.say)
    rates = [median(found, lambda one: one["tokens"] / one["seconds"]) for found in (peer, ours)]
    texts = list(zip(peer[0]["texts"], ours[0]["texts"], strict=True))
    alike = sum(a[: len(b)] == b for a, b in texts) / len(texts)  # ours also end where the model asks a question of its own
    names = (f"transformers generate, batches of {BATCH}, one edit after another", f"locus, {edits} edits in one batch")
    for found in (*peer, *ours):
        found["check"] = found.pop("texts")  # not kept
    return {
        "title": f"Greedy answers to {count} questions under {edits} edits each, at most {SPEECH.max_new_tokens} tokens",
        "columns": ["side", "tokens a second", "seconds", "times the peer", "peak MB"],
        "rows": [
            [name, f"{rate:.0f}", f"{median(found, lambda one: one['seconds']):.1f}", f"{rate / rates[0]:.1f}", _peak(found)]
            for name, rate, found in zip(names, rates, (peer, ours), strict=True)
        ],
        "aims": [],
        "checks": [
            {
                "what": f"share of texts that differ in a token, of {len(texts)}",
                "n": len(texts),
                "range": 1.0,
                "apart": 1 - alike,
                "allowed": 1 - SAME,
                "same": alike >= SAME,
            }
        ],
        "notes": ["Tokens are those of the answers up to their end; what the peer makes of a row after its end is not counted."],
        "found": [*peer, *ours],
    }


def _peak(found: list[Found]) -> str:
    return f"{median(found, lambda one: one['peak_mb']):.0f}"


def _given(model: str, data: str, count: int, edits: int) -> tuple[Model, list[str], list[Edit], PromptFormat]:
    """The model, its prompts, and shifts of two random heads each."""
    frozen, items = material.frozen(model), material.questions(data, count)
    text, layout, generator = prompt_format(frozen.tokenizer), frozen.layout, np.random.default_rng(0)
    made = []
    for _ in range(edits):
        layer = int(generator.integers(layout.n_layers))
        vector = torch.from_numpy(generator.normal(size=layout.d_in(layer)) * SIZE).float()
        location = Location.parse(",".join(f"{layer}.{head}" for head in range(layout.n_heads)))
        made.append(Edit("shift", location, layout, {layer: Terms(shift=vector)}, "all"))
    return frozen, [text.prompt(item.question) for item in items], made, text


def ours(model: str, data: str, count: int, edits: int) -> Found:
    """All edits and prompts in one call."""
    return together(*_given(model, data, count, edits))


def together(frozen: Model, prompts: list[str], made: list[Edit], text: PromptFormat) -> Found:
    """The same of a model that is loaded, under given edits."""
    start = time.perf_counter()
    said = generate(frozen, prompts, made, text, SPEECH)
    return _found(start, [list(one.tokens) for texts in said for one in texts])


def peer(model: str, data: str, count: int, edits: int) -> Found:
    """transformers, one edit hooked in after another, prompts of like length together, padded on the left."""
    return in_turn(*_given(model, data, count, edits))


def in_turn(frozen: Model, prompts: list[str], made: list[Edit], text: PromptFormat) -> Found:
    """The same of a model that is loaded, under given edits."""
    tokenizer, ends = frozen.tokenizer, end_tokens(frozen, text)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    start = time.perf_counter()
    texts: list[list[int]] = []
    for edit in made:
        mine: list[list[int]] = [[] for _ in prompts]
        with Bank([edit]).attach(frozen), torch.no_grad():
            for begin in range(0, len(order), BATCH):
                chosen = order[begin : begin + BATCH]
                batch = tokenizer(
                    [prompts[index] for index in chosen],
                    padding=True,
                    return_tensors="pt",
                    add_special_tokens=text.special_tokens,
                ).to(frozen.device)
                out = frozen.hf.generate(
                    **batch, max_new_tokens=SPEECH.max_new_tokens, do_sample=False, eos_token_id=sorted(ends)
                )
                for index, row in zip(chosen, out[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                    stop = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
                    mine[index] = row[:stop]
        texts += mine
    return _found(start, texts)


def _found(start: float, texts: list[list[int]]) -> Found:
    return {"seconds": time.perf_counter() - start, "tokens": sum(map(len, texts)), "texts": texts}
