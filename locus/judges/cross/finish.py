"""From the folds of a training to a judge: calibration, abstention, figures by stratum, and one file of weights.

    python -m locus.judges.cross.finish OUT --labels CSV --references CSV [--revised CSV] --write JUDGE.safetensors

Log-odds of every answer come from the fold that did not learn from its question. On them calibration is fitted, and, for the
figures alone, fitted once more without each fold: so no figure is of a question that anything of it was fitted to. The shipped
judge learned from all folds; what is measured is how such judges do on questions that they have not seen.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.isotonic import IsotonicRegression

from locus import atomic
from locus.errors import UserError
from locus.judges import corpus, encoder, evaluate
from locus.judges.base import Judgement
from locus.judges.cross.judge import TARGETS, Calibration, write_judge
from locus.judges.cross.model import CrossEncoder
from locus.judges.cross.training import CrossRecipe, parser_of
from locus.judges.examples import Example
from locus.judges.local import file_hash

Floats = NDArray[np.float64]
ERROR = 0.25  # where more of its answers than this are wrong, the judge abstains
LEAST_STEP = 25  # answers of a step of the calibration


def out_of_fold(out: Path, gathered: corpus.Corpus) -> Floats:
    """Log-odds of every row, [rows, 2], by the training that did not learn from its question.

    Raises:
        UserError: if a fold is missing, or is of another corpus.
    """
    odds = np.full((len(gathered.rows), 2), np.nan)
    for fold in range(corpus.FOLDS):
        where = [index for index, row in enumerate(gathered.rows) if gathered.fold[row.question] == fold]
        path = out / f"{fold}.json"
        if not path.is_file():
            raise UserError(f"all {corpus.FOLDS} folds", f"no {path.name}", "Train it: python -m locus.judges.cross.training.")
        values = np.array(json.loads(path.read_text(encoding="utf-8"))["log_odds"], dtype=float).reshape(-1, 2)
        if len(values) != len(where):
            raise UserError(f"{len(where)} answers of fold {fold}", str(len(values)), "Train it anew from these files.")
        odds[where] = values
    return odds


def calibrate(odds: Floats, goal: Floats) -> Calibration:
    """Isotonic steps of at least 25 answers, joined by lines; it abstains where more than a quarter of a stretch is wrong.

    Args:
        odds: [answers], of answers that models said.
        goal: [answers], 0 or 1.
    """
    order = np.argsort(odds, kind="stable")
    size = max(LEAST_STEP, len(odds) // 200)
    parts = np.array_split(order, max(2, len(odds) // size))
    centres, shares = (np.array([float(values[part].mean()) for part in parts]) for values in (odds, goal))
    # Half an answer of each kind: no probability is 0 or 1.
    counts = np.array([len(part) for part in parts])
    shares = (shares * counts + 0.5) / (counts + 1)
    fitted = IsotonicRegression(increasing=True).fit_transform(centres, shares, sample_weight=counts)
    knots = np.unique(centres, return_index=True)[1]
    return Calibration(tuple(centres[knots].tolist()), tuple(fitted[knots].tolist()), _abstention(fitted, counts))


def _abstention(probability: Floats, counts: NDArray[np.int64]) -> float:
    """The least distance from one half, in steps of 0.01, such that what lies just beyond errs at most a quarter of the time."""
    for step in range(50):
        least = step / 100
        near = (np.abs(probability - 0.5) >= least) & (np.abs(probability - 0.5) < least + 0.1)
        if not near.any() or float(np.average(0.5 - np.abs(probability[near] - 0.5), weights=counts[near])) <= ERROR:
            return least
    return 0.5


def judgements(odds: Floats, calibration: Sequence[dict[str, Calibration]]) -> list[Judgement]:
    """What the judge says of every answer, each by a calibration of its own."""
    said = []
    for one, by in zip(odds, calibration, strict=True):
        values = [float(by[name](np.array([at]))[0]) for name, at in zip(TARGETS, one, strict=True)]
        kept = [value if abs(value - 0.5) >= by[name].least else math.nan for name, value in zip(TARGETS, values, strict=True)]
        missing = [name for name, value in zip(TARGETS, kept, strict=True) if math.isnan(value)]
        reason = f"abstains on {' and '.join(missing)}" if missing else ""
        said.append(Judgement(kept[0], kept[1], reason))
    return said


def cross_calibrated(odds: Floats, gathered: corpus.Corpus) -> list[dict[str, Calibration]]:
    """For every row a calibration that was fitted without its fold."""
    rows = gathered.rows
    fold = np.array([gathered.fold[row.question] for row in rows])
    fitted = [fit(odds, rows, fold != number) for number in range(corpus.FOLDS)]
    return [fitted[number] for number in fold]


def fit(odds: Floats, rows: Sequence[Example], within: NDArray[np.bool_]) -> dict[str, Calibration]:
    """Calibrations of both targets on what models said."""
    own = within & np.array([row.kind == "model" for row in rows])
    goal = np.array([[row.truth, row.info] for row in rows])
    return {name: calibrate(odds[own, at], goal[own, at]) for at, name in enumerate(TARGETS)}


def strata(rows: Sequence[Example]) -> dict[str, NDArray[np.bool_]]:
    """Rows by what they are."""
    model = np.array([row.kind == "model" for row in rows])
    info = np.array([row.info > 0.5 for row in rows])
    kinds = {f"made up: {kind}": np.array([row.kind == kind for row in rows]) for kind in sorted({row.kind for row in rows})}
    kinds = {name: own for name, own in kinds.items() if name not in ("made up: model", "made up: reference")}
    return {"said by models": model, "informative": model & info, "hedges and silence": model & ~info, **kinds}


def report(odds: Floats, gathered: corpus.Corpus) -> dict[str, object]:
    """Figures by stratum: balanced accuracy with intervals by question, calibration error, and how often it abstains."""
    said = judgements(odds, cross_calibrated(odds, gathered))
    found: dict[str, object] = {}
    for name, own in strata(gathered.rows).items():
        where = np.flatnonzero(own)
        rows, told = [gathered.rows[index] for index in where], [said[index] for index in where]
        found[name] = {target: asdict(evaluate.figures(rows, told, target)) for target in TARGETS}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures, and the judge where all was trained."""
    parser = parser_of(__doc__)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    gathered = corpus.gather(options.labels, options.references, options.revised)
    odds = out_of_fold(options.out, gathered)
    figures = report(odds, gathered)
    atomic.replace(options.out / "figures.json", json.dumps(figures, indent=1) + "\n")
    for name, one in figures.items():
        print(name, {target: _short(one[target]) for target in TARGETS})  # type: ignore[index]
    if options.write:
        kept = load_file(str(options.out / "all.safetensors"))
        model = CrossEncoder()
        model.load_state_dict({name: kept[f"model.{name}"] for name in model.state_dict()})
        about = {"labels": file_hash(options.labels), "references": file_hash(options.references)}
        about |= {"base": file_hash(encoder.base_folder() / "model.safetensors"), "recipe": json.dumps(asdict(CrossRecipe()))}
        calibration = fit(odds, gathered.rows, np.ones(len(odds), dtype=bool))
        used = [question for question, fold in gathered.fold.items() if fold != corpus.OUTSIDE]
        write_judge(options.write, model, calibration, used, about)


def _short(one: dict[str, object]) -> str:
    spread, calibration = one["balanced_accuracy"], one["calibration"]
    low, high = (100 * spread[end] for end in ("low", "high"))  # type: ignore[index]
    ece = 100 * calibration["error"]  # type: ignore[index]
    said = f"balanced {100 * spread['value']:.1f} [{low:.1f}, {high:.1f}], ECE {ece:.1f}"  # type: ignore[index]
    return f"{said}, n {one['n']}, abstains {one['n_unscored']}"


if __name__ == "__main__":
    main()
