"""What judges of sides have in common: each answer is read by itself, and errors are counted on answers that people labelled.

A judge of sides says whether the wanted or the unwanted side of a behaviour is what is said. Labelled answers lie beside the code
(`labelled/NAME.jsonl`) or in a file of the user's: a line has `answer` and `side` (wanted, unwanted, neither), and where the
judge reads them `question` and the references `wanted` and `unwanted`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from locus.behaviours import lines
from locus.errors import UserError
from locus.judges.base import SIDES, References, Sides, check_lengths
from locus.stats.judged import Confusion, confusion

LABELS = (*SIDES, "neither")
FIELDS = ("answer", "side", "question", *SIDES)
NO_REFERENCES = References()
MOST = 10_000  # labelled answers


@dataclass(frozen=True)
class Labelled:
    """An answer of which somebody said what side it is on: wanted, unwanted or neither."""

    answer: str
    side: str
    question: str = ""
    references: References = NO_REFERENCES


class SideJudge(ABC):
    """Judges which side of a behaviour an answer says, each answer by itself."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables call it."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything its judgements depend on."""

    @abstractmethod
    def side(self, question: str, answer: str, references: References) -> Sides:
        """The judgement of one answer, which is not empty."""

    def labelled(self) -> Sequence[Labelled]:
        """The answers on which its errors are counted; none where nobody labelled any."""
        return ()

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Sides]:
        """One judgement per answer, in order; an empty answer says neither side.

        Raises:
            UserError: if the inputs are not equally long.
        """
        check_lengths(questions, answers, references)
        cases = list(zip(questions, answers, references, strict=True))
        known = {case: self.side(*case) for case in dict.fromkeys(cases) if case[1].strip()}
        return [known.get(case, Sides(0.0, 0.0)) for case in cases]

    def errors(self) -> dict[str, Confusion]:
        """Its confusion on the labelled answers, by side; empty where there are none, so that nothing is known."""
        examples = self.labelled()
        if not examples:
            return {}
        judged = self.judge(*zip(*((one.question, one.answer, one.references) for one in examples), strict=True))
        return counted(judged, [one.side for one in examples])


def counted(judged: Sequence[Sides], labels: Sequence[str]) -> dict[str, Confusion]:
    """How often a side is found where it is said, and not found where it is not; unscored answers are left out.

    Args:
        judged: judgements, each taken as its side where that has one half or more.
        labels: what people say, in the same order.
    """
    errors = {}
    for side in SIDES:
        values = np.array([one.values[side] for one in judged])
        found = np.where(np.isnan(values), np.nan, (values >= 0.5).astype(np.float64))
        errors[side] = confusion(found, [float(label == side) for label in labels])
    return errors


def embedded(name: str) -> bool:
    """Whether labelled answers of a name come with the package."""
    return name.isidentifier() and resources.files("locus.judges").joinpath("labelled", f"{name}.jsonl").is_file()


def read_labelled(source: str) -> list[Labelled]:
    """Labelled answers by the name of what comes with the package, or from a JSONL file.

    Raises:
        UserError: if there are none, or naming every line that is wrong.
    """
    if embedded(source):
        text = resources.files("locus.judges").joinpath("labelled", f"{source}.jsonl").read_text(encoding="utf-8")
        return [labelled_row(number, json.loads(line)) for number, line in enumerate(text.removesuffix("\n").split("\n"), 1)]
    named_file(source, ".jsonl", "labelled answers: a name of the package's, or a file")
    expected = f"a line with answer and side ({', '.join(LABELS)}), and if wanted question and references wanted and unwanted"
    examples = lines.read_lines(source, labelled_row, expected, "labelled answer")
    if len(examples) > MOST:
        raise UserError(f"at most {MOST:,} labelled answers", f"{len(examples):,} in {source!r}", "Give fewer.")
    return examples


def labelled_row(number: int, row: Any) -> Labelled:
    """The labelled answer of a line.

    Raises:
        ValueError: with the list of what is wrong with it.
    """
    wrong = [f"unknown field {name!r}" for name in row if name not in FIELDS]
    wrong += [f"no text {name!r}" for name in ("answer", "side") if not isinstance(row.get(name), str)]
    wrong += [] if isinstance(row.get("question", ""), str) else ["a question that is no text"]
    sides = [row.get(side, []) for side in SIDES]
    if not all(isinstance(side, list) and all(isinstance(one, str) for one in side) for side in sides):
        wrong.append("references that are no lists of texts")
    if not wrong and row["side"] not in LABELS:
        wrong.append(f"a side {row['side'][:40]!r}, which is none of {', '.join(LABELS)}")
    if wrong:
        raise ValueError(wrong)
    return Labelled(row["answer"], row["side"], row.get("question", ""), References(*(tuple(side) for side in sides)))


def named_file(source: str, suffix: str, what: str) -> Path:
    """A file that a judge's name names.

    Raises:
        UserError: if there is none.
    """
    path = Path(source)
    if path.suffix != suffix or not path.is_file():
        raise UserError(f"{what} (a {suffix} file that is there)", repr(source[:200]), "Check the name.")
    return path
