"""Train the local judge: cross-encoder and trees on training questions, the stack on validation questions.

CPU only. Everything random is drawn from the seed; matrix libraries may still round differently from run to run (they
choose kernels by memory alignment), unless they are told not to (MKL_CBWR=COMPATIBLE and one thread).
Test questions are never read here.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from locus.datasets.items import content_hash
from locus.errors import UserError
from locus.judges import encoder, examples, local, trees
from locus.judges.examples import Example

Log = Callable[[str], None]
CHUNK = 20  # batches that are sorted by length together
FOLDS = 5


@dataclass(frozen=True)
class Recipe:
    """Every choice of the training, as shipped.

    Attributes:
        seed: of the start, the order, dropout and the made-up variants; `split_seed` of the parts.
        rank: of the low-rank updates.
        epochs: over the training examples; likewise `batch_size` in examples.
        learning_rate: peak, reached after `warm_up` (share of steps), then linear to zero.
        dropout: on hidden states.
        smoothing: labels become smoothing and 1 - smoothing, since some labels are wrong.
        info_weight: of the second loss, relative to truth's.
        skip_nearest: how often an example is shown without its nearest references.
        other_weight: of references and made-up answers in the trees, relative to model answers.
    """

    seed: int = 0
    split_seed: int = 0
    rank: int = 32
    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.06
    dropout: float = 0.1
    smoothing: float = 0.02
    info_weight: float = 0.5
    skip_nearest: float = 0.15
    other_weight: float = 0.3


def case(example: Example) -> local.Case:
    """What the judge gets to see of an example."""
    return local.cleaned(example.question, example.answer, example.references)


def targets(rows: Sequence[Example]) -> NDArray[np.float64]:
    """Labels of truth and information, shape (n, 2)."""
    return np.array([[row.truth, row.info] for row in rows])


def set_dropout(model: encoder.CrossEncoder, rate: float) -> None:
    """Dropout on hidden states only: with it on attention weights the fast attention kernel cannot be used."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0 if name.endswith("attention.self.dropout") else rate


def order_batches(lengths: Sequence[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Random batches whose sequences are of similar length: sorted within chunks, then shuffled."""
    shuffled = [int(index) for index in rng.permutation(len(lengths))]
    found = []
    for start in range(0, len(shuffled), size * CHUNK):
        chunk = sorted(shuffled[start : start + size * CHUNK], key=lambda index: lengths[index])
        parts = [chunk[first : first + size] for first in range(0, len(chunk), size)]
        found += [parts[int(index)] for index in rng.permutation(len(parts))]
    return found


def pace(step: int, steps: int, warm_up: float) -> float:
    """Share of the peak learning rate at a step: linear up, then linear down to zero."""
    done = step / steps
    return done / warm_up if done < warm_up else (1.0 - done) / (1.0 - warm_up)


def fit_encoder(
    reader: local.Reader, rows: Sequence[Example], offsets: NDArray[np.float64], recipe: Recipe, log: Log
) -> encoder.CrossEncoder:
    """Train the low-rank updates and the head, by weighted binary cross-entropy, to add what the trees do not know.

    Args:
        reader: has read all rows.
        rows: training examples.
        offsets: log-odds of trees that did not see the row's question, shape (n, 2): the logits are added to them.
        recipe: every choice.
        log: told about the progress.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = encoder.CrossEncoder(reader.folder, recipe.rank, recipe.seed)
    set_dropout(model, recipe.dropout)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    cases, goal, prior = [case(row) for row in rows], targets(rows), torch.tensor(offsets, dtype=torch.float32)
    goal = goal * (1 - 2 * recipe.smoothing) + recipe.smoothing
    lengths = [len(reader.pack(given)[0]) for given in cases]
    steps, step, started, losses = recipe.epochs * -(-len(rows) // recipe.batch_size), 0, time.monotonic(), []
    model.train()
    model.bert.embeddings.train(mode=False)
    for _ in range(recipe.epochs):
        for batch in order_batches(lengths, recipe.batch_size, rng):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * pace(step, steps, recipe.warm_up)
            packed = [reader.pack(cases[i], bool(rng.random() < recipe.skip_nearest)) for i in batch]
            logits = model(*encoder.collate(packed)) + prior[batch]
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, torch.tensor(goal[batch], dtype=torch.float32), reduction="none"
            )
            weight = torch.tensor([[rows[i].weight, rows[i].weight * recipe.info_weight] for i in batch])
            total = (loss * weight).sum(dim=1).mean()
            optimizer.zero_grad()
            torch.autograd.backward(total)
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(float(total.detach()))
            step += 1
            if step % 50 == 0 or step == steps:
                seconds = time.monotonic() - started
                log(f"step {step} of {steps}, loss {np.mean(losses[-50:]):.4f}, {seconds:.0f} s")
    model.train(mode=False)
    return model


def fit_trees(x: NDArray[np.float32], rows: Sequence[Example], recipe: Recipe) -> tuple[trees.Trees, trees.Trees]:
    """Boosted trees on the features, one set for each target."""
    weight = np.array([1.0 if row.kind == "model" else recipe.other_weight for row in rows])
    found = []
    for column in range(2):
        model = HistGradientBoostingClassifier(
            max_iter=300,
            learning_rate=0.04,
            max_leaf_nodes=10,
            min_samples_leaf=40,
            l2_regularization=5.0,
            max_features=0.3,
            early_stopping=False,
            random_state=recipe.seed,
        )
        model.fit(x, targets(rows)[:, column], sample_weight=weight)
        found.append(trees.from_sklearn(model))
    return found[0], found[1]


def unseen_logits(x: NDArray[np.float32], rows: Sequence[Example], recipe: Recipe) -> NDArray[np.float64]:
    """Log-odds of every row, shape (n, 2), by trees that saw no answer to its question (nor to its near copies)."""
    names = sorted({row.question for row in rows})
    group = examples.group_questions({row.question: row.references for row in rows})
    fold_of = {name: fold for fold, name in enumerate(np.random.default_rng(recipe.seed).permutation(names))}
    fold = np.array([fold_of[group[row.question]] % FOLDS for row in rows])
    found = np.zeros((len(rows), 2))
    for number in range(FOLDS):
        inside = fold == number
        forests = fit_trees(x[~inside], [row for row, out in zip(rows, ~inside, strict=True) if out], recipe)
        found[inside] = np.column_stack([forest.logit(x[inside]) for forest in forests])
    return found


def fit_stack(inputs: NDArray[np.float64], rows: Sequence[Example]) -> NDArray[np.float64]:
    """Logistic regression of each target on the stack's inputs, shape (2, n_inputs); the last input is constant."""
    goal = targets(rows)
    fitted = []
    for column in range(2):
        model = LogisticRegression(C=1.0, max_iter=1000).fit(inputs[:, :-1], goal[:, column])
        fitted.append(np.append(model.coef_[0], model.intercept_[0]))
    return np.array(fitted)


def material(labels: Path, references: Path, recipe: Recipe) -> tuple[list[Example], list[Example], dict[str, str]]:
    """Training examples, validation examples (model answers only), and the part of every question.

    Raises:
        UserError: if a file is missing or unfit, or a part has no labelled model answers.
    """
    sides, category = examples.read_references(references)
    rows = examples.read_examples(labels, sides, category)
    part = examples.part_of(sides, recipe.split_seed)
    fit = examples.training_examples(rows, sides, part, category, recipe.seed)
    held = [row for row in rows if part[row.question] == "validation" and row.kind == "model"]
    if not held or not any(row.kind == "model" for row in fit):
        raise UserError(
            "labelled model answers to training and to validation questions",
            f"{len(fit)} training examples and {len(held)} validation answers",
            "Check that the questions of both files are written alike.",
        )
    return fit, held, part


def train(labels: Path, references: Path, out: Path, recipe: Recipe, log: Log = print) -> local.Weights:
    """Train the judge and write its weights.

    Args:
        labels: CSV of labelled answers.
        references: TruthfulQA's CSV.
        out: safetensors file to write.
        recipe: every choice.
        log: told about the progress, one line at a time.

    Raises:
        UserError: if the base package or a file is missing.
    """
    folder = encoder.base_folder()
    fit, held, part = material(labels, references, recipe)
    reader = local.Reader(folder)
    log(f"{len(fit)} training examples, {len(held)} validation answers; reading them once")
    reader.read([case(row) for row in (*fit, *held)])
    x_fit, x_held = (reader.features([case(row) for row in rows]) for rows in (fit, held))
    forests = fit_trees(x_fit, fit, recipe)
    model = fit_encoder(reader, fit, unseen_logits(x_fit, fit, recipe), recipe, log)
    # The stack is fitted on what ships: tensors rounded to half precision.
    model.restore({name: tensor.half() for name, tensor in model.trained().items()})
    crossed = local.crossed_logits(model, reader, [case(row) for row in held])
    inputs = local.stack_inputs(crossed, np.column_stack([forest.logit(x_held) for forest in forests]))
    metadata = {
        "version": local.VERSION,
        "features": local.feature_hash(),
        "base": local.file_hash(folder / "model.safetensors"),
        "rank": str(recipe.rank),
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        "split": content_hash(part),
        "labels": local.file_hash(labels),
        "references": local.file_hash(references),
    }
    weights = local.Weights(model.trained(), forests, fit_stack(inputs, held), metadata)
    local.save(weights, out)
    return weights
