"""The cross-encoder as a judge: trained weights, calibrated, named by `cross:WEIGHTS`.

Its probabilities are isotonic in its log-odds, fitted to log-odds of questions that the model which gave them had not seen. Where
a probability is nearer to one half than the weights allow, the judge abstains: the answer is unscored, with that reason.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from locus.boundary import incoming
from locus.errors import UserError
from locus.judges import api, corpus, encoder
from locus.judges.base import Judgement, References, check_lengths, gap, unscored
from locus.judges.cross.model import CrossEncoder, Reader, Sizes
from locus.judges.kind import JudgeKind
from locus.judges.local import cleaned, file_hash
from locus.models.checkpoint import headers

SCHEMA = "locus-cross-judge/1"
TARGETS = ("truth", "info")


@dataclass(frozen=True)
class Calibration:
    """Steps from log-odds to a probability, and where the judge abstains.

    Attributes:
        odds: [knots], ascending.
        probability: [knots], ascending; straight lines between.
        least: the least distance from one half at which a probability is given.
    """

    odds: tuple[float, ...]
    probability: tuple[float, ...]
    least: float = 0.0

    def __call__(self, log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities."""
        values: NDArray[np.float64] = np.interp(log_odds, self.odds, self.probability)
        return values


def write_judge(
    path: Path, model: CrossEncoder, calibration: dict[str, Calibration], questions: Sequence[str], about: dict[str, str]
) -> None:
    """Write a judge as one file of half-precision weights.

    Args:
        path: a .safetensors file.
        model: trained.
        calibration: of truth and of info.
        questions: all that it learned from, was chosen by or calibrated on.
        about: what else is said of it: recipe, hashes.
    """
    content = {
        **about,
        "schema": SCHEMA,
        "sizes": vars(model.sizes),
        "calibration": {name: vars(one) for name, one in calibration.items()},
        "used": corpus.listed(questions),
    }
    tensors = {name: one.detach().half().contiguous() for name, one in model.state_dict().items()}
    # One entry: safetensors writes several in no fixed order, and the same judge is to have the same bytes.
    save_file(tensors, str(path), {"locus": json.dumps(content, separators=(",", ":"))})


class CrossJudge:
    """Judges answers against references with a fine-tuned encoder, on the CPU.

    Args:
        weights: what `write_judge` wrote.
        folder: of the base model's tokenizer; found in the installed package where not given.

    Raises:
        UserError: if there are no such weights, or the base package is missing.
    """

    def __init__(self, weights: Path, folder: Path | None = None):
        if not weights.is_file():
            raise UserError(
                "weights of a cross-encoder judge", f"no file {weights.name!r}", "Train them: docs/judging.md says how."
            )
        headers(weights)  # refuses a file that is cut or none of this format
        with safe_open(str(weights), framework="pt") as handle:
            metadata = incoming.parse_json((handle.metadata() or {}).get("locus", "{}"))
            tensors = {name: handle.get_tensor(name).float() for name in list(handle.keys())}
        if metadata.get("schema") != SCHEMA:
            raise UserError(f"weights of a {SCHEMA}", f"{weights.name!r} of another kind", "Name a judge's own weights.")
        self._path, self.metadata = weights, metadata
        model = CrossEncoder(Sizes(**metadata["sizes"]))
        model.load_state_dict(tensors)
        self._reader = Reader(model, encoder.load_tokenizer(encoder.base_folder() if folder is None else folder))
        self.calibration = {name: Calibration(**one) for name, one in metadata["calibration"].items()}

    @property
    def name(self) -> str:
        """What tables call it."""
        return "cross"

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, with all that is said of them."""
        return hashlib.sha256(json.dumps([SCHEMA, file_hash(self._path)]).encode()).hexdigest()

    def seen(self, questions: Sequence[str]) -> list[bool]:
        """Whether the judge learned from each question or a near copy of it."""
        return corpus.seen(questions, self.metadata["used"])

    def judge(self, questions: Sequence[str], answers: Sequence[str], references: Sequence[References]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where something is missing, or it abstains.

        Raises:
            UserError: if the inputs are not equally long.
        """
        check_lengths(questions, answers, references)
        judgements: list[Judgement] = [SILENT] * len(answers)
        grouped: dict[tuple[str, References], dict[str, list[int]]] = {}
        for index, inputs in enumerate(zip(questions, answers, references, strict=True)):
            if reason := gap(*inputs):
                judgements[index] = unscored(reason)
            else:
                case = cleaned(*inputs)
                grouped.setdefault((case.question, case.references), {}).setdefault(case.answer, []).append(index)
        for (question, sides), by_answer in grouped.items():
            odds = self._reader.log_odds(question, sides, list(by_answer))
            for indices, one in zip(by_answer.values(), odds, strict=True):
                for index in indices:
                    judgements[index] = self._judgement(one)
        return judgements

    def _judgement(self, odds: NDArray[np.float64]) -> Judgement:
        """Calibrated; NaN where it abstains."""
        values, abstained = [], []
        for name, at in zip(TARGETS, odds, strict=True):
            value = float(self.calibration[name](np.array([at]))[0])
            sure = abs(value - 0.5) >= self.calibration[name].least
            values.append(value if sure else float("nan"))
            abstained += [] if sure else [name]
        return Judgement(values[0], values[1], f"the judge abstains on {' and '.join(abstained)}" if abstained else "")


SILENT = unscored("not judged")


def _check(weights: str, endpoint: api.Endpoint | None = None) -> None:
    encoder.base_folder()
    if not Path(weights).is_file():
        raise UserError("weights of a cross-encoder judge", f"no file {weights!r}", "Train them: docs/judging.md says how.")


def _open(weights: str, endpoint: api.Endpoint) -> CrossJudge:
    return CrossJudge(Path(weights))


KIND = JudgeKind(_open, _check, "required")
