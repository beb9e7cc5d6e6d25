"""Questions as a model will see them, before anything is run: prompt and answers, token by token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from locus.behaviours.items import Dataset, Item
from locus.errors import UserError
from locus.models.locate import DEFAULT_MODEL
from locus.shown import line

if TYPE_CHECKING:
    from locus.models.model import Model

Tokens = tuple[str, ...]
BAR = "│"
FORMATS = ("auto", "chat", "qa", "primer", "bare")
MOST = 1000  # items
HEAD, TAIL = 40, 60  # tokens that are shown of a long text
SIDE = 6  # answers that are shown of a side


@dataclass(frozen=True)
class Seen:
    """A question as a model sees it.

    Attributes:
        item: the question.
        prompt: the tokens before an answer.
        wanted: the tokens of each wanted answer; they are what is scored.
        unwanted: likewise of the unwanted ones.
    """

    item: Item
    prompt: Tokens
    wanted: tuple[Tokens, ...]
    unwanted: tuple[Tokens, ...]

    @property
    def lines(self) -> list[str]:
        """As text: a line of what it is, of the prompt, and of every answer, with a bar between tokens."""
        item = self.item
        about = f"{item.id}  group: {item.group}" + (f"  category: {item.category}" if item.category else "")
        sides = (("wanted", self.wanted), ("unwanted", self.unwanted))
        answers = [f"  {name:<9} {shown(one)}" for name, side in sides for one in side[:SIDE]]
        return [line(about, 240), f"  {'asked':<9} {shown(self.prompt)}", *answers]


@dataclass(frozen=True)
class Preview:
    """Some questions of a behaviour as a model sees them; it prints itself.

    Attributes:
        about: the behaviour, its size, the model and the prompt format, in a line.
        items: the questions.
    """

    about: str
    items: tuple[Seen, ...]

    def __repr__(self) -> str:
        return "\n".join([self.about, *(one for item in self.items for one in item.lines)])


def preview(dataset: Dataset, model: "Model | str | None", items: int, prompt: str, revision: str | None) -> Preview:
    """See `Behaviour.preview`."""
    from locus.behaviours.prompts import prompt_format

    if prompt not in FORMATS or not 1 <= items <= MOST:
        received = repr(prompt) if prompt not in FORMATS else str(items)
        raise UserError(f"a prompt format of {', '.join(FORMATS)}, and 1 to {MOST:,} items", received, "Give such.")
    name, tokenizer = _tokenizer(model, revision)
    text = prompt_format(tokenizer, name=prompt)  # type: ignore[arg-type]
    count = min(items, len(dataset.items))
    places = sorted({round(place * (len(dataset.items) - 1) / max(1, count - 1)) for place in range(count)})
    groups = len({item.group for item in dataset.items})
    size = f"{len(dataset.items):,} questions in {groups:,} groups"
    about = f"{dataset.name}: {size}, as {name} sees them (prompt format {text.name}). {BAR} stands between tokens."
    return Preview(line(about), tuple(_seen(tokenizer, text, dataset.items[place]) for place in places))


def _tokenizer(model: "Model | str | None", revision: str | None) -> tuple[str, Any]:
    """A model's name and tokenizer."""
    if model is not None and not isinstance(model, str):
        return model.name, model.tokenizer
    from locus.models.load import load_tokenizer

    return model or DEFAULT_MODEL, load_tokenizer(model or DEFAULT_MODEL, revision=revision)


def _seen(tokenizer: Any, text: Any, item: Item) -> Seen:
    from locus.behaviours.marked import marked

    sides = [[marked(tokenizer, text, item.question, answer) for answer in side] for side in (item.wanted, item.unwanted)]
    wanted, unwanted = (tuple(answer for _, answer in side) for side in sides)
    return Seen(item, sides[0][0][0], wanted, unwanted)


def shown(tokens: Tokens) -> str:
    """Tokens in a line with bars between them; of many, the first and the last."""
    if len(tokens) > HEAD + TAIL + 1:
        between = f" … {len(tokens) - HEAD - TAIL:,} tokens … "
        return line(BAR.join((*tokens[:HEAD], between, *tokens[-TAIL:])))
    return line(BAR.join(tokens))
