"""Train the local judge: trees on all questions that are not test questions, calibration on answers they did not see.

CPU only; everything random is drawn from the seed. Choices (features, weights, sizes) were made with the trees fitted
on training questions and measured on validation questions; the shipped trees are then fitted on both. Test questions
are never read here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from locus.behaviours.items import content_hash
from locus.errors import UserError
from locus.judges import encoder, examples, local, trees
from locus.judges.examples import Example

Log = Callable[[str], None]


@dataclass(frozen=True)
class ForestRecipe:
    """Every choice of the training, as shipped.

    Attributes:
        seed: of the made-up variants, the trees and the folds.
        split_seed: of the parts.
        n_forests: forests whose log-odds are averaged, each with a seed of its own.
        n_trees: of a forest.
        n_leaves: of a tree at most.
        learning_rate: of the boosting.
        least: examples in a leaf.
        column_share: of features looked at for each split.
        reference_weight: of references and made-up answers, relative to what models said.
        folds: for calibration.
        read_references: False trains the control that judges by question and answer alone.
    """

    seed: int = 0
    split_seed: int = 0
    n_forests: int = 2
    n_trees: int = 300
    n_leaves: int = 12
    learning_rate: float = 0.04
    least: int = 30
    column_share: float = 0.3
    reference_weight: float = 0.1
    folds: int = 5
    read_references: bool = True


def case(example: Example) -> local.Case:
    """What the judge gets to see of an example."""
    return local.cleaned(example.question, example.answer, example.references)


def targets(rows: Sequence[Example]) -> NDArray[np.float64]:
    """Labels of truth and information, shape (n, 2)."""
    return np.array([[row.truth, row.info] for row in rows])


def spoken(rows: Sequence[Example]) -> NDArray[np.bool_]:
    """Which rows a language model said, shape (n,)."""
    return np.array([row.kind == "model" for row in rows])


def principal_axes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The axes along which answers differ most, shape (16, 384), and their mean, shape (384,).

    Args:
        vectors: embeddings of answers, shape (n, 384).

    Raises:
        UserError: if there are fewer answers than axes.
    """
    if len(vectors) < local.N_AXES:
        raise UserError(f"at least {local.N_AXES} model answers", f"{len(vectors)}", "Give more labelled answers.")
    centre = vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(vectors - centre, full_matrices=False)
    return axes[: local.N_AXES].astype(np.float32), centre.astype(np.float32)


def fit_forests(x: NDArray[np.float32], rows: Sequence[Example], recipe: ForestRecipe) -> tuple[tuple[trees.Trees, ...], ...]:
    """Boosted trees on the features: for each target, one forest per seed."""
    weight = np.where(spoken(rows), 1.0, recipe.reference_weight)
    forests = []
    for column in range(len(local.TARGETS)):
        group = []
        for number in range(recipe.n_forests):
            model = HistGradientBoostingClassifier(
                max_iter=recipe.n_trees,
                learning_rate=recipe.learning_rate,
                max_leaf_nodes=recipe.n_leaves,
                min_samples_leaf=recipe.least,
                l2_regularization=5.0,
                max_features=recipe.column_share,
                early_stopping=False,
                random_state=recipe.seed + number,
            )
            model.fit(x, targets(rows)[:, column], sample_weight=weight)
            group.append(trees.from_sklearn(model))
        forests.append(tuple(group))
    return tuple(forests)


def folds(rows: Sequence[Example], group: dict[str, str], recipe: ForestRecipe) -> NDArray[np.int64]:
    """The fold of each row, shape (n,): all answers to a question, and to its near copies, share one."""
    names = sorted({group[row.question] for row in rows})
    order = np.random.default_rng(recipe.seed).permutation(len(names))
    fold = {name: int(rank) % recipe.folds for name, rank in zip(names, order, strict=True)}
    return np.array([fold[group[row.question]] for row in rows])


def unseen_log_odds(
    x: NDArray[np.float32], rows: Sequence[Example], fold: NDArray[np.int64], recipe: ForestRecipe, log: Log
) -> NDArray[np.float64]:
    """Log-odds of every row, shape (n, 2), by trees that saw no answer to its question."""
    log_odds = np.zeros((len(rows), len(local.TARGETS)))
    for number in sorted(set(fold.tolist())):
        inside = fold == number
        training_rows = [row for row, outside in zip(rows, ~inside, strict=True) if outside]
        log_odds[inside] = local.boosted(fit_forests(x[~inside], training_rows, recipe), x[inside])
        log(f"fold {number + 1} of {recipe.folds}")
    return log_odds


def fit_calibration(log_odds: NDArray[np.float64], rows: Sequence[Example]) -> NDArray[np.float64]:
    """Slope and intercept for each target, shape (2, 2), by logistic regression on model answers.

    Source: Platt 1999.
    """
    own, goal = spoken(rows), targets(rows)
    fitted = []
    for column in range(len(local.TARGETS)):
        model = LogisticRegression(C=1e6).fit(log_odds[own][:, [column]], goal[own, column])
        fitted.append([model.coef_[0, 0], model.intercept_[0]])
    return np.array(fitted)


def material(labels: Path, references: Path, recipe: ForestRecipe) -> tuple[list[Example], dict[str, str], dict[str, str]]:
    """What is learned from, and the part and the group of every question.

    Raises:
        UserError: if a file is missing or unfit, or no labelled model answers are left.
    """
    refs, category = examples.read_references(references)
    part = examples.part_of(refs, recipe.split_seed)
    rows = examples.read_examples(labels, refs, category)
    learned = examples.training_examples(rows, refs, part, category, recipe.seed)
    if not spoken(learned).any():
        raise UserError(
            "labelled model answers to questions of the references file",
            f"{len(rows)} labelled answers, none to a question that is not held out",
            "Check that the questions of both files are written alike.",
        )
    group, own = examples.group_questions(refs), [row for row in learned if row.kind == "model"]
    groups = {group[row.question] for row in own}
    if len(groups) < recipe.folds or any(len(set(column)) < 2 for column in targets(own).T.tolist()):
        raise UserError(
            f"model answers to at least {recipe.folds} groups of questions, true and false, informative and not",
            f"{len(own)} answers to {len(groups)} groups",
            "Give more labelled answers.",
        )
    return learned, part, group


def train_judge(labels: Path, references: Path, out: Path, recipe: ForestRecipe | None = None, log: Log = print) -> local.Weights:
    """Train the judge and write its weights.

    Args:
        labels: CSV of labelled answers.
        references: TruthfulQA's CSV.
        out: safetensors file to write.
        recipe: every choice; the shipped one where not given.
        log: told about the progress, one line at a time.

    Raises:
        UserError: if the base package or a file is missing.
    """
    recipe = recipe or ForestRecipe()
    folder = encoder.base_folder()
    rows, part, group = material(labels, references, recipe)
    reader, cases = local.FeatureReader(folder), [case(row) for row in rows]
    log(f"{len(rows)} examples, {int(spoken(rows).sum())} of them answers of models; reading them once")
    reader.read(cases)
    axes, centre = principal_axes(reader.vectors(cases)[spoken(rows)])
    x = reader.features(cases, axes, centre)
    x = x if recipe.read_references else local.blindfolded(x)
    calibration = fit_calibration(unseen_log_odds(x, rows, folds(rows, group, recipe), recipe, log), rows)
    weights = local.Weights(fit_forests(x, rows, recipe), axes, centre, calibration, {})
    metadata: dict[str, str] = {
        "version": local.VERSION,
        "columns": local.column_hash(),
        "base": local.file_hash(folder / "model.safetensors"),
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        local.READS_REFERENCES: "yes" if recipe.read_references else "no",
        "split": content_hash(part),
        "labels": local.file_hash(labels),
        "references": local.file_hash(references),
        "questions": " ".join(sorted({local.question_key(row.question) for row in rows})),
    }
    weights.metadata.update(metadata)
    local.save_weights(weights, out)
    return weights
