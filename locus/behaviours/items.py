"""An Item is one question with contrasting answers; a split never cuts a group of questions.

The question is the sampling unit of everything that follows: splits, paired differences and bootstraps.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from locus.errors import UserError
from locus.records.base import JsonObject

SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.2, 0.2)
SIDES, TRUTH = ("wanted", "unwanted"), ("truth", "info")  # notions that a judge of what is said has
FILED = {"wanted": "true", "unwanted": "false"}


@dataclass(frozen=True)
class Item:
    """One question with its true answers, false answers, best answer, and a group id.

    Attributes:
        id: unique within its dataset.
        question: the question as it is asked.
        true: answers that are right; at least one.
        false: answers that are wrong; at least one. No answer is given twice, but in a data set published so.
        best: the best true answer, one of `true`.
        group: items of one group are never cut by a split (rewordings of one question share it).
        category: the topic, for tables.
        source: where a reader can check the answers.
        spans: by name, the characters [from, to) of the question that are the subject, or whatever else is marked. They are no
            part of what data are known by: who edits at one says so (`marked_hash`).
    """

    id: str
    question: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    best: str
    group: str
    category: str = ""
    source: str = ""
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)

    def to_dict(self) -> JsonObject:
        """As JSON, without its spans; the answers under the names that they have in files, by which data are known since the
        first edition."""
        fields = asdict(self)
        del fields["spans"]
        return {FILED.get(name, name): value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, filed: Mapping[str, Any]) -> "Item":
        """An item as `to_dict` wrote it, or with the answers called wanted and unwanted."""
        fields = {{old: new for new, old in FILED.items()}.get(name, name): value for name, value in filed.items()}
        return cls(**{**fields, "wanted": tuple(fields["wanted"]), "unwanted": tuple(fields["unwanted"])})

    @property
    def answers(self) -> tuple[str, ...]:
        """True answers first, then false ones."""
        return self.wanted + self.unwanted

    @property
    def n_pairs(self) -> int:
        """Number of true x false pairs."""
        return len(self.wanted) * len(self.unwanted)


@dataclass(frozen=True)
class Dataset:
    """Items with their name, and the hash that names exactly this content.

    Attributes:
        name: what the user calls it, with its revision ("truthfulqa:v0").
        items: the questions.
        licence: licence of the text.
        origin: where it came from, for receipts and citations.
        as_published: answers that are listed twice stay, since the published numbers are of the list as it is.
        form: the wanted side is a form (a language, a tone), which shows without the question: what a rule that never reads the
            question reaches is said, and is no reason against a verdict.
        judge: of what is said, where it names one: who judges unless told otherwise.
        notions: of which a judge can give a probability here: sides, and truth where wanted answers are so because they are true.
    """

    name: str
    items: tuple[Item, ...]
    licence: str = ""
    origin: str = ""
    as_published: bool = False
    form: bool = False
    judge: str = ""
    notions: tuple[str, ...] = SIDES

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of all items, in order."""
        return content_hash([item.to_dict() for item in self.items])


def about_truth(dataset: Dataset) -> Dataset:
    """The same questions, of which is declared that wanted answers are the true ones: judges of truth fit, and `local` is one."""
    return replace(dataset, judge=dataset.judge or "local", notions=(*SIDES, *TRUTH))


@dataclass(frozen=True)
class Split:
    """Indices into a dataset's items, by part; groups are never cut.

    Attributes:
        train: sorted indices; likewise `validation` and `test`.
        seed: the seed the parts were drawn from.
        sha256: hash of the group ids of each part.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    seed: int
    sha256: str

    def part(self, name: str) -> tuple[int, ...]:
        """The indices of one part by name."""
        parts: dict[str, tuple[int, ...]] = {"train": self.train, "validation": self.validation, "test": self.test}
        return parts[name]


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of a value's sorted, compact JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def marked_hash(items: Sequence[Item], span: str) -> str:
    """Hash of where a span is marked in questions."""
    return content_hash([[item.id, *item.spans[span]] for item in items])


def normalise(text: str) -> str:
    """Case-folded text with single spaces and no final full stop: two questions that agree here are the same question."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(".").strip()


def problems(item: Item) -> list[str]:
    """What is wrong with an item, one sentence each; empty if it can be used."""
    sentences = []
    if not item.question.strip():
        sentences.append("the question is empty")
    if not item.wanted:
        sentences.append("there is no true answer")
    if not item.unwanted:
        sentences.append("there is no false answer")
    if any(not answer.strip() for answer in item.answers):
        sentences.append("an answer is empty")
    if item.best not in item.wanted:
        sentences.append(f"the best answer {item.best!r} is not among the true answers")
    return sentences


def repeats(item: Item) -> list[str]:
    """Answers that an item gives twice, letter for letter but for blanks around them, one sentence each.

    Whether two other answers are the same is for a model's tokenizer to say: see `answers.check`.
    """
    counted = Counter(answer.strip() for answer in item.answers)
    return [f"the answer {answer!r} is given twice" for answer, count in counted.items() if count > 1]


def contradicted(item: Item, seen: dict[tuple[str, str], bool]) -> list[str]:
    """Answers that the same question has elsewhere with the other label, one sentence each.

    Args:
        item: the question.
        seen: whether an answer to a question was wanted, of the items before this one; this one's are added.
    """
    question, sentences = normalise(item.question), []
    for answers, wanted in ((item.wanted, True), (item.unwanted, False)):
        for answer in answers:
            if seen.setdefault((question, answer.strip()), wanted) != wanted:
                sentences.append(f"the answer {answer!r} is both right and wrong, here and where the same question stands before")
    return sentences


def split(items: Sequence[Item], seed: int, shares: tuple[float, float, float] = SHARES) -> Split:
    """Divide items into train, validation and test without cutting a group.

    Groups are shuffled with the seed and dealt so that every part gets its share of groups, rounded to whole
    groups and never below one.

    Args:
        items: the questions.
        seed: of the shuffle.
        shares: fractions of the groups in train, validation and test; they add up to 1.

    Raises:
        UserError: if there are fewer than three groups.
    """
    groups = sorted({item.group for item in items})
    if len(groups) < 3:
        raise UserError(
            "at least 3 groups of questions, one for each of train, validation and test",
            f"{len(groups)} group(s)",
            "Give more questions, or give each question a group of its own.",
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    n_train = min(max(1, round(shares[0] * len(groups))), len(groups) - 2)
    n_validation = min(max(1, round(shares[1] * len(groups))), len(groups) - n_train - 1)
    part_of = {}
    for rank, group in enumerate(order):
        part = 0 if rank < n_train else 1 if rank < n_train + n_validation else 2
        part_of[groups[group]] = SPLITS[part]
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for index, item in enumerate(items):
        parts[part_of[item.group]].append(index)
    groups_of_part = {name: sorted({items[index].group for index in indices}) for name, indices in parts.items()}
    return Split(
        train=tuple(parts["train"]),
        validation=tuple(parts["validation"]),
        test=tuple(parts["test"]),
        seed=seed,
        sha256=content_hash(groups_of_part),
    )
