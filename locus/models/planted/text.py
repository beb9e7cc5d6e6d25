"""The words of a planted model: a tokenizer with one token a word, and a dataset of one-word questions and answers.

A prompt is "Which-017?" after the beginning-of-text token and an answer is one more word, so a question with all its
answers is one position of one row of two tokens. "upper-017" is the answer on the positive side of the polarity.
"""

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from locus.behaviours.items import Dataset, Item
from locus.models.planted.directions import Array

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
SIDES = ("upper", "lower", "aside")  # of one form, so that no rule can tell them without reading the question


def words(n_questions: int, n_answers: int) -> tuple[list[str], list[list[str]]]:
    """The questions' words, and the answers' words of each question in the order of SIDES."""
    digits = max(3, len(str(n_questions - 1)))
    numbers = [f"{index:0{digits}d}" for index in range(n_questions)]
    return [f"Which-{n}?" for n in numbers], [[f"{answer}-{n}" for answer in SIDES[:n_answers]] for n in numbers]


def cues(n_questions: int) -> list[str]:
    """The first words of questions that have two."""
    return [question.replace("Which", "About").strip("?") for question in words(n_questions, 1)[0]]


def make_tokenizer(n_questions: int, n_answers: int, cued: bool = False) -> PreTrainedTokenizerFast:
    """A fast tokenizer that knows exactly the words of a planted model.

    Ids: SPECIAL, then all questions, then all answers question by question, then the cues, if questions have any. Words
    are parted by white space, the beginning-of-text token is put first, and there is no chat template.
    """
    questions, answers = words(n_questions, n_answers)
    vocabulary = [*SPECIAL, *questions, *(word for group in answers for word in group)]
    vocabulary += cues(n_questions) if cued else []
    model = models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def make_dataset(
    name: str,
    bits: Array,
    n_answers: int,
    shuffled: bool,
    rng: np.random.Generator,
    cued: bool = False,
    paired: bool = False,
) -> Dataset:
    """Items with one true answer each, every item a group of its own, or two of them.

    Args:
        name: the dataset's name.
        bits: [n_questions] of +1 and -1, the polarity of the true answer.
        n_answers: answers to a question.
        shuffled: draw which answer is called true, every place equally often, instead of by polarity.
        rng: for the shuffled labels.
        cued: whether a word stands before each question's own: "About-017 Which-017?".
        paired: whether two neighbours each are a group.
    """
    questions, answers = words(len(bits), n_answers)
    texts = [f"{cue} {question}" for cue, question in zip(cues(len(bits)), questions, strict=True)] if cued else questions
    place = np.where(bits > 0, 0, 1)
    if shuffled:
        place = rng.permutation(np.arange(len(bits)) % n_answers)
    items: list[Item] = []
    for question, text, group, true in zip(questions, texts, answers, place.tolist(), strict=True):
        false = tuple(answer for index, answer in enumerate(group) if index != true)
        name_of = question.strip("?")
        pair = f"pair-{len(items) // 2}" if paired else name_of
        items.append(Item(name_of, text, (group[true],), false, group[true], pair, source="by construction"))
    return Dataset(name, tuple(items), licence="CC0-1.0", origin="drawn from a seed by locus.models.planted")
