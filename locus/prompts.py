"""How a question is put to the model: chat template, plain Q/A, or a few-shot primer before it.

The format is part of every result and is hashed with it. Answer tokens are located by the tokenizer's character
offsets in the whole text; counting the tokens of the prompt alone misplaces the answer wherever a tokenizer
merges across the boundary (Llama 3 does).
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from locus.datasets.items import Item, content_hash
from locus.errors import UserError
from locus.forest import Encoded, Forest

FormatName = Literal["auto", "chat", "qa", "primer", "bare"]

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
    """

    name: str
    template: str
    joint: str
    special_tokens: bool

    @property
    def sha256(self) -> str:
        """Hash of all fields."""
        return content_hash(asdict(self))

    def prompt(self, question: str) -> str:
        """The text up to the answer."""
        return self.template.replace("{question}", question)


def prompt_format(tokenizer: Any, name: FormatName = "auto", primer: str = PRIMER) -> PromptFormat:
    """The format by name; `auto` is the model's chat template where it has one, else plain Q/A.

    A raw "Q: A:" prompt makes an instruction-tuned model end its turn at once, hence the default.

    Raises:
        UserError: if `chat` is asked of a tokenizer without a chat template.
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
        # The marker is put in by the template and then looked for, so that any template works unread.
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "{question}"}], tokenize=False, add_generation_prompt=True
        )
        return PromptFormat("chat", text, "", False)
    if name == "bare":
        return PromptFormat("bare", "{question}", " ", True)
    plain = "Q: {question}\nA:"
    return PromptFormat(name, f"{primer}\n\n{plain}" if name == "primer" else plain, " ", True)


def encode(tokenizer: Any, text: PromptFormat, question: str, answer: str) -> Encoded:
    """Tokenise prompt + answer as one text and find where the answer begins.

    A token that straddles the boundary belongs to the answer.

    Raises:
        UserError: if the answer leaves no token, or nothing comes before it.
    """
    prompt = text.prompt(question)
    coded = tokenizer(prompt + text.joint + answer, add_special_tokens=text.special_tokens, return_offsets_mapping=True)
    ids, offsets = list(coded["input_ids"]), list(coded["offset_mapping"])
    boundary = len(prompt)
    start = next((k for k, (_, end) in enumerate(offsets) if end > boundary), len(ids))
    while len(ids) > start and offsets[-1][1] <= offsets[-1][0] and ids[-1] == tokenizer.eos_token_id:
        ids.pop(), offsets.pop()  # some tokenizers close the text with an end-of-text token; it is not the answer's
    if start >= len(ids) or not answer.strip():
        raise UserError("an answer of at least one token", repr(answer), f"Mend the answer to {question!r}.")
    if start == 0:
        raise UserError(
            "at least one token before the answer",
            f"the prompt {prompt!r}, which leaves none",
            "Use a prompt format with text before the answer, or a tokenizer with a beginning-of-text token.",
        )
    return Encoded(tuple(ids), start)


def plant(tokenizer: Any, text: PromptFormat, items: tuple[Item, ...] | list[Item]) -> Forest:
    """The forest of all answers of all items; sequences in item order, true answers first; owner = item index."""
    sequences, owners = [], []
    for index, item in enumerate(items):
        for answer in item.answers:
            sequences.append(encode(tokenizer, text, item.question, answer))
            owners.append(index)
    return Forest(sequences, owners)
