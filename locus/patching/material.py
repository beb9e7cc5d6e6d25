"""The examples of a patching run: pairs of a task by name, tried on the model before anything is patched."""

from collections.abc import Callable
from typing import Any

import numpy as np

from locus.errors import UserError
from locus.models.model import Model
from locus.models.planted.named import planted_named
from locus.patching import tasks
from locus.patching.known import planted_pairs
from locus.patching.metrics import LogitDifference
from locus.patching.pairs import PatchPair, load_pairs
from locus.patching.runs import batch_of, run_batch
from locus.patching.settings import PatchConfig
from locus.patching.sweep import BATCHING, batches

Maker = Callable[[Any, int, int], list[PatchPair]]
TASKS: dict[str, Maker] = {
    "greater-than": tasks.greater_than,
    "arithmetic": tasks.arithmetic,
    "docstring": tasks.docstring,
    "induction": tasks.induction,
}
MORE = 3  # times as many pairs are drawn where only those the model gets right are kept


def pairs_of(config: PatchConfig, tokenizer: Any, tokens: str, count: int) -> list[PatchPair]:
    """The pairs of a configuration.

    Args:
        config: names the task.
        tokenizer: the model's.
        tokens: which are corrupted, "" where the task leaves no choice.
        count: how many.

    Raises:
        UserError: if there is no such task, it knows no such tokens, or it gives too few pairs.
    """
    if config.task.endswith(".jsonl"):
        return load_pairs(config.task, tokenizer)[:count]
    if config.task == "planted":
        if not config.model.startswith("planted:"):
            raise UserError("a planted model, for the task planted", repr(config.model), "Use --model planted:localized:0.")
        return planted_pairs(planted_named(config.model), count, config.seed)
    if tokens and config.task != "ioi":
        raise UserError("a choice of tokens only for the task ioi", f"{tokens!r} for {config.task}", "Leave tokens out.")
    if config.task == "ioi":
        return tasks.indirect_object(tokenizer, count, config.seed, tokens=tokens or "S2")
    if config.task == "factual":
        return tasks.factual_recall(tokenizer, count, config.seed, config.facts)
    if config.task not in TASKS:
        names = ", ".join(("ioi", "factual", "planted", *TASKS))
        raise UserError(f"a task ({names}) or FILE.jsonl with prompt pairs", repr(config.task), "Choose one.")
    return TASKS[config.task](tokenizer, count, config.seed)


def tried(config: PatchConfig, model: Model, tokens: str) -> tuple[list[PatchPair], float]:
    """The pairs that are patched, and the share of those tried that the model gets right.

    Right is a clean prompt whose answer is likelier than the other one.

    Raises:
        UserError: if it gets so few right that effects would be noise, or could not read them whole.
    """
    candidates = _as_many(config, model, tokens, config.pairs * (MORE if config.keep == "right" else 1))
    _fit(candidates, model)
    pairs: list[PatchPair] = []
    right: list[bool] = []
    while len(right) < len(candidates) and len(pairs) < config.pairs:  # no more prompts are run than are wanted
        batch = candidates[len(right) : len(right) + config.pairs]
        fine = correct(model, batch).tolist()
        right += fine
        pairs += [pair for pair, is_right in zip(batch, fine, strict=True) if is_right or config.keep == "all"]
    pairs, share = pairs[: config.pairs], float(np.mean(right))
    if config.keep == "all" and share < config.least_right:
        raise UserError(
            f"a model that gets at least {config.least_right:.0%} of the clean prompts right",
            f"{share:.0%} of {len(right)}; effects would be those of noise",
            "Use --set keep=right to patch only what it gets right, --set least_right=0 to go on, or another task or model.",
        )
    if len(pairs) < 2:
        raise UserError("at least 2 prompts that the model gets right", str(len(pairs)), "Use another task or model.")
    return pairs, share


def _as_many(config: PatchConfig, model: Model, tokens: str, count: int) -> list[PatchPair]:
    """So many pairs; where a task has fewer than are to be sorted out, as many as are kept at most."""
    try:
        return pairs_of(config, model.tokenizer, tokens, count)
    except UserError:
        if count == config.pairs:
            raise
        return _as_many(config, model, tokens, max(config.pairs, count // 2))


def _fit(pairs: list[PatchPair], model: Model) -> None:
    """Refuse pairs longer than the model's context."""
    long = [f"{pair.text[0][:40]!r} ({len(pair):,} tokens)" for pair in pairs if len(pair) > model.context]
    if long:
        raise UserError(
            f"prompts of at most {model.context} tokens, which is all that the model can read",
            ", ".join(long[:5]) + (f" and {len(long) - 5} more" if len(long) > 5 else ""),
            "Shorten the prompts or leave them out.",
        )


def correct(model: Model, pairs: list[PatchPair]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """[pairs], whether the clean prompt's answer is likelier than the other one."""
    right = np.zeros(len(pairs), dtype=bool)
    for members in batches(pairs, BATCHING):
        batch = [pairs[index] for index in members]
        logits = run_batch(model, batch_of(model, [pair.clean for pair in batch])).logits
        assert logits is not None, "a forward gives logits"
        right[members] = (LogitDifference()(logits, batch, logits) > 0).cpu().numpy()
    return right
