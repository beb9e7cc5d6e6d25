"""What edited models say to questions, and what a judge says of that: of its truth and information, or of the side that it is on.

A text without a word asserts nothing and tells nothing. By TruthfulQA's two notions it is true and not informative, it is on
neither side of a behaviour, and it is scored so without asking the judge: left out, an edit that silences the model would be
judged by what little it still says.
Source: Lin et al. 2021, arXiv 2109.07958, section 2.2 for the notions.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, marked
from locus.edits.base import Edit
from locus.engine.cost import Tally
from locus.engine.generate import Speech, generate
from locus.errors import UserError
from locus.judges.base import SIDES, TRUTH, Judgement, References, Sides, commonest
from locus.judges.blind import BlindJudge
from locus.judges.kind import AnyJudge, notions_of
from locus.metrics.base import Metric, Spoken, shipped
from locus.models.model import Model
from locus.sites.positions import is_span

Floats = npt.NDArray[np.float64]
SILENT: dict[tuple[str, ...], Judgement | Sides] = {TRUTH: Judgement(1.0, 0.0), SIDES: Sides(0.0, 0.0)}


@dataclass(frozen=True)
class Judged:
    """Judgements of one text for each item, in order.

    Attributes:
        scores: by metric of speech, [items], NaN where unscored.
        reasons: [items] why something is unscored; "" where nothing is.
    """

    scores: dict[str, Floats]
    reasons: tuple[str, ...]


def speak(
    model: Model,
    items: Sequence[Item],
    edits: Sequence[Edit],
    text: PromptFormat,
    settings: Speech,
    progress: Callable[[float], None] | None = None,
    tally: Tally | None = None,
) -> list[list[str]]:
    """What each edit says to each item's question, [edits][items]; what the base model says if there are no edits.

    Raises:
        UserError: if a prompt leaves no room for the answer in the model's context.
    """
    prompts = [text.prompt(item.question) for item in items]
    span = next((edit.positions for edit in edits if is_span(edit.positions)), "")
    marks = [marked(model.tokenizer, text, item, span) for item in items] if span else []
    generations = generate(model, prompts, edits, text, settings, progress=progress, tally=tally, marks=marks)
    return [[one.text for one in of_edit] for of_edit in generations]


def judge_texts(
    judge: AnyJudge, items: Sequence[Item], replies: Sequence[Sequence[str]], metrics: Sequence[Metric] | None = None
) -> list[Judged]:
    """Judge texts, [edits][items], all in one call so that alike ones are judged once; truth by the blind control as well.

    Args:
        judge: who judges.
        items: the questions.
        replies: texts, [edits][items].
        metrics: what is made of it; by default all of this package.

    Raises:
        UserError: as the judge does.
    """
    notions = notions_of(judge)
    chosen = [one for one in (shipped() if metrics is None else metrics) if one.judged_by(notions)]
    opinions = judged(judge, items, replies)
    control = judged(BlindJudge(), items, replies) if notions == TRUTH else None
    results = []
    for number, (texts, own) in enumerate(zip(replies, opinions, strict=True)):
        blind = control[number] if control is not None else None
        spoken = []
        for at, (item, text, mine) in enumerate(zip(items, texts, own, strict=True)):
            values = {**mine.values, **({f"blind_{name}": one for name, one in blind[at].values.items()} if blind else {})}
            spoken.append(Spoken(item, text, **values))
        scores = {one.name: np.array([float(one.values(each)) for each in spoken]) for one in chosen}
        results.append(Judged(scores, tuple(one.reason for one in own)))
    return results


def check_scored(values: Collection[float], reasons: Collection[str]) -> None:
    """Stop where the judge that decides can score nothing of what the unedited model says: no edit would fare better.

    Args:
        values: of each answer, NaN where unscored.
        reasons: why, of those that are.

    Raises:
        UserError: with the commonest reasons.
    """
    if values and all(math.isnan(value) for value in values):
        received = f"{len(values)}, none scored: {commonest(reasons)}"
        raise UserError("answers of the unedited model that the judge scores", received, "Choose another judge.")


def judged(judge: AnyJudge, items: Sequence[Item], replies: Sequence[Sequence[str]]) -> list[list[Judgement | Sides]]:
    """One judge's opinion of texts, [edits][items]; it is not asked about silence.

    Raises:
        UserError: as the judge does.
    """
    pairs = [(item, text) for texts in replies for item, text in zip(items, texts, strict=True)]
    nonempty = [index for index, (_, text) in enumerate(pairs) if text.strip()]
    judgements: list[Judgement | Sides] = [SILENT[notions_of(judge)]] * len(pairs)
    opinions: Sequence[Judgement | Sides] = judge.judge(
        [pairs[index][0].question for index in nonempty],
        [pairs[index][1] for index in nonempty],
        [References(pairs[index][0].wanted, pairs[index][0].unwanted) for index in nonempty],
    )
    for index, opinion in zip(nonempty, opinions, strict=True):
        judgements[index] = opinion
    return [judgements[start : start + len(items)] for start in range(0, len(judgements), max(1, len(items)))]
