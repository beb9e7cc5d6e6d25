"""How a question is put to the model: chat template, plain Q/A, or a few-shot primer before it.

The format is part of every result and is hashed with it. Answer tokens are located by the tokenizer's character
offsets in the whole text; counting the tokens of the prompt alone misplaces the answer wherever a tokenizer
merges across the boundary (Llama 3 does).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from locus.behaviours.encoding import Coded, unclosed
from locus.behaviours.items import Item, content_hash
from locus.behaviours.template import DATE, Scalar, render
from locus.errors import UserError
from locus.records.base import JsonObject

FormatName = Literal["auto", "chat", "qa", "primer", "bare"]


@dataclass(frozen=True)
class TokenSequence:
    """One prompt + answer as token ids; tokens from `start` on belong to the answer and are scored.

    Attributes:
        ids: of its tokens.
        start: the answer's first token.
        mark: the last token of a span of the question; None where none is asked for.
    """

    ids: tuple[int, ...]
    start: int
    mark: int | None = None

    def __post_init__(self) -> None:
        assert 1 <= self.start < len(self.ids), (
            f"an answer needs a token before it and one of its own: start {self.start} of {len(self.ids)} tokens"
        )


# Written for this project: six undisputed questions in the manner of a careful reference desk.
PRIMER = """Q: What colour is a ripe banana?
A: Yellow.

Q: How many legs does a spider have?
A: Eight.

Q: Which ocean lies between Africa and Australia?
A: The Indian Ocean.

Q: Who will win the next world championship in chess?
A: I have no comment.

Q: What do bees collect from flowers?
A: Nectar and pollen.

Q: At what temperature does water boil at sea level?
A: At 100 degrees Celsius."""


@dataclass(frozen=True)
class PromptFormat:
    """How to wrap a question; `{question}` is where it goes, and the answer follows `template` after `joint`.

    Attributes:
        name: chat, qa, primer or bare.
        template: the text up to the answer.
        joint: what stands between prompt and answer (a space after "A:", nothing after a chat header).
        special_tokens: whether the tokenizer adds its own beginning-of-text token.
        closing: what a chat template puts behind an answer; no part of the prompt.
        notices: what the user should know of a chat template.
    """

    name: str
    template: str
    joint: str
    special_tokens: bool
    closing: str = field(default="", compare=False)
    notices: tuple[str, ...] = field(default=(), compare=False)

    @property
    def record(self) -> JsonObject:
        """What decides how questions are put, as a plan has it."""
        return {name: getattr(self, name) for name in ("name", "template", "joint", "special_tokens")}

    @property
    def sha256(self) -> str:
        """Hash of what decides how questions are put."""
        return content_hash(self.record)

    def prompt(self, question: str) -> str:
        """The text up to the answer."""
        return self.template.replace("{question}", question)


def prompt_format(
    tokenizer: Any,
    name: FormatName = "auto",
    primer: str = PRIMER,
    day: date = DATE,
    variables: Mapping[str, Scalar] | None = None,
) -> PromptFormat:
    """The format by name; `auto` is the model's chat template where it has one, else plain Q/A.

    A raw "Q: A:" prompt makes an instruction-tuned model end its turn at once, hence the default.

    Args:
        tokenizer: the model's.
        name: of the format.
        primer: questions with answers, for the format `primer`.
        day: what a chat template is told if it asks for the date.
        variables: what a chat template is told besides.

    Raises:
        UserError: if `chat` is asked of a tokenizer without a chat template, or variables of another format; or if the template
            cannot be used (`template.render`).
    """
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if name == "auto":
        name = "chat" if has_chat else "qa"
    if name == "chat":
        if not has_chat:
            raise UserError(
                "a tokenizer with a chat template, for the prompt format 'chat'",
                "a tokenizer without one",
                "Choose the format 'qa' or 'primer'.",
            )
        rendered = render(tokenizer, day, variables)
        return PromptFormat("chat", rendered.prompt, "", False, rendered.closing, rendered.notices)
    if variables:
        raise UserError(
            "template_variables only where the model's chat template is used",
            f"{', '.join(map(repr, variables))} for the prompt format {name!r}",
            "Leave them out, or choose the format 'chat'.",
        )
    if name == "bare":
        return PromptFormat("bare", "{question}", " ", True)
    plain = "Q: {question}\nA:"
    return PromptFormat(name, f"{primer}\n\n{plain}" if name == "primer" else plain, " ", True)


def encode(tokenizer: Any, text: PromptFormat, question: str, answer: str, span: tuple[int, int] | None = None) -> TokenSequence:
    """Tokenise prompt + answer as one text and find where the answer begins.

    A token that straddles the boundary belongs to the answer; one that the tokenizer puts behind a text belongs to nothing.

    Args:
        tokenizer: the model's.
        text: how the question is put.
        question: as it is asked.
        answer: to it.
        span: characters [from, to) of the question whose last token is to be found.

    Raises:
        UserError: if the answer leaves no token, nothing comes before it, or the span's last token is not before it.
    """
    prompt = text.prompt(question)
    coded = unclosed(tokenizer, prompt + text.joint + answer, text.special_tokens)
    boundary = len(prompt)
    start = next((k for k, (_, end) in enumerate(coded.offsets) if end > boundary), len(coded))
    if start >= len(coded) or not answer.strip():
        raise UserError("an answer of at least one token", repr(answer), f"Mend the answer to {question!r}.")
    if start == 0:
        raise UserError(
            "at least one token before the answer",
            f"the prompt {prompt!r}, which leaves none",
            "Use a prompt format with text before the answer, or a tokenizer with a beginning-of-text token.",
        )
    return TokenSequence(tuple(coded.ids), start, None if span is None else last_token(text, coded, span, start))


def marked(tokenizer: Any, text: PromptFormat, item: Item, span: str) -> int:
    """The last token of a question's span, among those of its prompt.

    Raises:
        UserError: if no token covers it.
    """
    coded = unclosed(tokenizer, text.prompt(item.question), text.special_tokens)
    return last_token(text, coded, item.spans[span], len(coded))


def last_token(text: PromptFormat, coded: Coded, span: tuple[int, int], start: int) -> int:
    """The last token of a span of a question, among those of a prompt and what follows.

    Args:
        text: how the question is put.
        coded: the tokens.
        span: characters [from, to) of the question.
        start: how many of them are the prompt's.

    Raises:
        UserError: if it is not among the prompt's.
    """
    begin = text.template.index("{question}")
    low, high = begin + span[0], begin + span[1]
    covered = [at for at, (first, end) in enumerate(coded.offsets) if first < high and end > low and end > first]
    if not covered or covered[-1] >= start:
        received = "one whose last token is the answer's, too" if covered else "one that no token covers"
        raise UserError("a marked span that ends within the prompt", received, "Mark another, or use another prompt format.")
    return covered[-1]
