"""People read a run's answers: by the answer alone, shuffled, in two passes, stopped and gone on with at will.

Which answers are read follows from the plan (`labels`), or from a number that is given once results are there; then they decide
nothing. No reader sees which edit gave an answer, nor what the judge says of it. Every label is on the disk before the next
answer is shown. When a sitting ends, verdict, receipt and page are written anew from what was read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locus.boundary import incoming
from locus.conclude import derive, people
from locus.conclude.record import Record
from locus.errors import UserError
from locus.records.labels import LABELS_SCHEMA, METRICS, PASSES, AnswerLabels, LabelsRecord, text_hash, write_labels
from locus.records.store import Store
from locus.records.verdict import Verdict
from locus.report import page, receipt

ORDER = 6  # stream of the run's seed


@dataclass(frozen=True)
class Shown:
    """One answer to be read, without whose it is.

    Attributes:
        item: its question's name.
        question: as asked.
        text: what was said.
        turn: which pass it is, from 0.
        number: which answer of that pass, from 1.
        total: answers in a pass.
    """

    item: str
    question: str
    text: str
    turn: int
    number: int
    total: int


class Sitting:
    """The answers that are still to be read, and those that were.

    Args:
        folder: of a finished run.
        count: the most answers that are drawn, where the plan asked for none.
        reader: who reads; what an earlier sitting said by default.

    Raises:
        UserError: if the run is not finished, nobody judged it, its plan says another number, or it has too few questions.
    """

    def __init__(self, folder: Path, count: int | None = None, reader: str = ""):
        self.folder = folder
        if not (folder / "receipt.json").is_file():
            remedy = "Finish it: its command goes on where it stopped."
            raise UserError("a finished run, with its receipt", f"{str(folder)!r} without one", remedy)
        with derive.recorded(folder) as record:
            self._plan, old = record.plan, record.labels
            asked = _asked(record, count)
            self.answers = people.answers(record, asked)
            seed = record.config.seed
        if not self.answers:
            received = f"{asked} answers, too few for one question, or a run that is not finished"
            raise UserError("answers that can be drawn", received, "Give more --answers, or finish the run.")
        self._questions = {item.id: item.question for item in self._plan.items.test}
        self.labels = LabelsRecord(
            schema_=LABELS_SCHEMA,
            plan_sha256=self._plan.sha256,
            asked=asked,
            reader=reader or (old.reader if old is not None else ""),
            answers=old.answers if old is not None else (),
        )
        self._order = [np.random.default_rng([seed, ORDER, turn]).permutation(len(self.answers)) for turn in range(PASSES)]

    def left(self) -> Iterator[Shown]:
        """The answers that are still to be read, pass by pass, each pass in an order of its own; as labels come, one by one."""
        for turn, order in enumerate(self._order):
            for number, index in enumerate(order, 1):
                item, text = self.answers[index]
                if len(self._of(item, text).truth) <= turn:
                    yield Shown(item, self._questions[item], text, turn, number, len(order))

    def label(self, shown: Shown, truth: float, info: float) -> None:
        """Keep what was said of an answer.

        Args:
            shown: the answer.
            truth: 1, 0, or 0.5 where it cannot be told.
            info: likewise.
        """
        old = self._of(shown.item, shown.text)
        kept = {"truth": (*old.truth[: shown.turn], _plain(truth)), "info": (*old.info[: shown.turn], _plain(info))}
        self._keep(AnswerLabels(item=old.item, text=old.text, **kept))

    def undo(self, shown: Shown) -> None:
        """Take back what was said of an answer in its pass."""
        old = self._of(shown.item, shown.text)
        self._keep(old.model_copy(update={"truth": old.truth[: shown.turn], "info": old.info[: shown.turn]}))

    def _of(self, item: str, text: str) -> AnswerLabels:
        key = (item, text_hash(text))
        return self.labels.by_answer.get(key) or AnswerLabels(item=item, text=key[1], truth=(), info=())

    def _keep(self, one: AnswerLabels) -> None:
        known = {**self.labels.by_answer, (one.item, one.text): one}
        self.labels = self.labels.model_copy(update={"answers": tuple(known[key] for key in sorted(known))})
        write_labels(self.folder, self.labels)

    @property
    def done(self) -> bool:
        """Whether every answer was read in every pass."""
        return next(self.left(), None) is None

    def conclude(self, sign: bool = True) -> Verdict:
        """Write verdict, receipt and page anew from what was read.

        Args:
            sign: whether the user's key signs the receipt.
        """
        write_labels(self.folder, self.labels)
        before = Verdict.parse(
            incoming.read_json(self.folder / "verdict.json", "a finished run's verdict.json", inside=self.folder)
        )
        seconds = before.seconds.this_call if before.seconds is not None else None
        store = Store(self.folder / "trials.sqlite")
        try:
            verdict = derive.write(self.folder, store, float(seconds or 0))
            receipt.write(self.folder, store, None, sign)
            page.write(self.folder, figures=False, sign=sign)
        finally:
            store.close()
        return verdict


def _asked(record: Record, count: int | None) -> int:
    """How many answers are drawn at most: as the plan says, as an earlier sitting said, or as is given now."""
    config, labels = record.config, record.labels
    if config.judge == "none" or config.metric not in METRICS:
        received = f"a verdict by {config.metric}" if config.judge != "none" else "a run without a judge"
        raise UserError(f"a run that was judged, with a verdict by {', '.join(METRICS)}", received, "Audit with a judge.")
    fixed = config.labels or (labels.asked if labels is not None else None)
    if fixed is not None and count not in (None, fixed):
        said = "its plan" if config.labels else "an earlier sitting"
        raise UserError(f"the number of answers that {said} says: {fixed}", str(count), "Leave --answers out.")
    if fixed is None and count is None:
        wanted = "how many answers are to be drawn, since the plan asks for none"
        raise UserError(wanted, "no --answers", "Give --answers 100; they will stand beside the verdict, and decide nothing.")
    return int(fixed if fixed is not None else count or 0)


def _plain(value: float) -> int | float:
    return int(value) if math.floor(value) == value else value
