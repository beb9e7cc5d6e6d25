"""Whether a model can read what an audit would give it: no text longer than its context, and none that its tokenizer misreads.

Beyond their context models with rotary positions say something all the same, and others fail in the middle. A question that has
a model's closing token in it would end its own turn.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from locus.behaviours.encoding import all_unclosed, commands
from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat
from locus.claims.probe import with_question
from locus.errors import UserError
from locus.metrics.drift import DriftText
from locus.plan.config import AuditConfig
from locus.plan.context import spoken_parts

SHOWN = 10  # questions that are named; the others are counted
Items = Mapping[str, Sequence[Item]]


def problems(
    tokenizer: Any, context: int, text: PromptFormat, items: Items, sample: DriftText | None, config: AuditConfig
) -> list[UserError]:
    """Everything that the model could not read as it is meant.

    Args:
        tokenizer: the model's.
        context: the most tokens it can read.
        text: the prompt format.
        items: by part, the questions.
        sample: texts for KL and cross-entropy, if any are read.
        config: what is audited and how.
    """
    return [
        *_answers(tokenizer, context, text, items),
        *_speech(tokenizer, context, text, items, config),
        *_features(tokenizer, context, items, config),
        *_passages(tokenizer, context, sample, config),
        *_commands(tokenizer, text, items),
    ]


def _answers(tokenizer: Any, context: int, text: PromptFormat, items: Items) -> list[UserError]:
    pairs = [(item, answer) for part in items.values() for item in part for answer in item.answers]
    coded = all_unclosed(
        tokenizer, [f"{text.prompt(item.question)}{text.joint}{one}" for item, one in pairs], text.special_tokens
    )
    sizes = zip((item.id for item, _ in pairs), map(len, coded), strict=True)
    return _too_long(sizes, context, f"questions that with the prompt {text.name} and an answer have at most {context} tokens")


def _speech(tokenizer: Any, context: int, text: PromptFormat, items: Items, config: AuditConfig) -> list[UserError]:
    """Prompts that leave no room for what is to be said."""
    if config.judge == "none":
        return []
    asked = [item for name in spoken_parts(config) for item in items[name]]
    coded = all_unclosed(tokenizer, [text.prompt(item.question) for item in asked], text.special_tokens)
    sizes = ((item.id, len(one) + config.max_new_tokens) for item, one in zip(asked, coded, strict=True))
    wanted = f"questions that leave room for {config.max_new_tokens} new tokens (max_new_tokens) within {context}"
    return _too_long(sizes, context, wanted)


def _features(tokenizer: Any, context: int, items: Items, config: AuditConfig) -> list[UserError]:
    """Answers with another question behind them, where probes are fitted on these."""
    if config.features == "answer":
        return []
    probed = (*items["train"], *items["validation"])
    owners, texts = zip(*with_question(probed, config.seed), strict=True)
    sizes = ((probed[owner].id, len(one)) for owner, one in zip(owners, all_unclosed(tokenizer, texts), strict=True))
    wanted = f"questions that with an answer and another question (features = {config.features}) have at most {context} tokens"
    return _too_long(sizes, context, wanted)


def _passages(tokenizer: Any, context: int, sample: DriftText | None, config: AuditConfig) -> list[UserError]:
    if sample is None or config.text_tokens <= context:
        return []
    longest = min(config.text_tokens, max(map(len, all_unclosed(tokenizer, sample.passages))))
    if longest <= context:
        return []
    return [
        UserError(
            f"passages of the text {sample.name!r} of at most {context} tokens, which is all that the model can read",
            f"{longest} tokens",
            f"Use --set text_tokens={context}.",
        )
    ]


def _too_long(sizes: Iterable[tuple[str, int]], context: int, wanted: str) -> list[UserError]:
    most: dict[str, int] = {}
    for name, size in sizes:
        if size > context:
            most[name] = max(size, most.get(name, 0))
    if not most:
        return []
    named = _named([f"{name} ({size:,} tokens)" for name, size in most.items()])
    remedy = "Shorten them or leave them out; or choose a shorter prompt, or a model with a longer context."
    return [UserError(f"{wanted}, which is all that the model can read", named, remedy)]


def _commands(tokenizer: Any, text: PromptFormat, items: Items) -> list[UserError]:
    """Questions and answers that the tokenizer does not read as text; in the format `bare` the text is the whole prompt."""
    if text.name == "bare":
        return []
    known = commands(tokenizer, text.template)
    pairs = [(item, one) for part in items.values() for item in part for one in (item.question, *item.answers)]
    coded = all_unclosed(tokenizer, [one for _, one in pairs], special_tokens=False)
    specials: dict[str, set[int]] = {}
    for (item, _), one in zip(pairs, coded, strict=True):
        if meant := known.intersection(one.ids):
            specials.setdefault(item.id, set()).update(meant)
    if not specials:
        return []
    named = [f"{name} ({', '.join(tokenizer.convert_ids_to_tokens(sorted(meant)))})" for name, meant in specials.items()]
    return [
        UserError(
            "questions and answers that are read as text",
            f"some with special tokens of this model in them: {_named(named)}",
            "Write these otherwise, or leave them out. Whole prompts with such tokens are for --set prompt=bare.",
        )
    ]


def _named(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
