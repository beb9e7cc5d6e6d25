"""Fine-tune the cross-encoder, fold by fold; killed at any moment it goes on where it was, to the same bytes.

    python -m locus.judges.cross.training OUT --labels CSV --references CSV [--revised CSV] [--fold 0 ... 4 | all | pilot]

Of each fold it writes the log-odds of every row of the fold, by a model that saw none of its questions; `all` writes the weights.
`pilot` trains on three folds, and says after each epoch how it does on a fourth; the fifth is not looked at. So settings are
chosen.

A row is a question with its references and all answers to it, so what leads to the answers is computed once. Everything random is
drawn from the seed and the number of the step.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from locus import atomic
from locus.behaviours.items import normalise
from locus.judges import corpus, encoder
from locus.judges.base import References
from locus.judges.cross.model import ANSWER, QUESTION, CrossEncoder, Encoded, Reader, Texts, base, sides, visible
from locus.judges.evaluate import balanced_accuracy
from locus.judges.examples import Example

Log = Callable[[str], None]
NEW = ("parts.", "head.")  # what was not there before


@dataclass(frozen=True)
class CrossRecipe:
    """Every choice of the training.

    Attributes:
        seed: of order, dropout, and references left out.
        epochs: passes over the questions.
        rows: questions a step.
        answers: of a row at most; a question with more makes several.
        rate: of learning, at its peak; it rises over the first tenth of the steps, and falls to nothing.
        new_rate: of what was not there before.
        decay: of weights.
        left_out: share of references that an answer is not shown, so that it is judged without what it repeats.
        weights: of what models said, of references, and of made-up answers.
    """

    seed: int = 0
    epochs: int = 6
    rows: int = 4
    answers: int = 40
    rate: float = 1e-4
    new_rate: float = 1e-3
    decay: float = 0.01
    left_out: float = 0.15
    weights: tuple[float, float, float] = (1.0, 0.3, 0.15)


@dataclass(frozen=True)
class Row:
    """One question with its references and answers to it, ready to be read."""

    encoded: Encoded
    shown: torch.Tensor
    answers: tuple[Example, ...]


def weight(example: Example, recipe: CrossRecipe) -> float:
    """How much an answer counts."""
    said, reference, made_up = recipe.weights
    return {"model": said, "reference": reference}.get(example.kind, made_up)


def rows_of(examples: Sequence[Example], references: dict[str, References], texts: Texts, recipe: CrossRecipe) -> list[Row]:
    """Answers by question, each shown the references that it may be held against."""
    by_question: dict[str, list[Example]] = {}
    for example in examples:
        by_question.setdefault(example.question, []).append(example)
    rows = []
    for question, answers in by_question.items():
        listed = sides(references[question])
        for start in range(0, len(answers), recipe.answers):
            some = answers[start : start + recipe.answers]
            encoded = texts.encode([(question, QUESTION), *listed, *((one.answer, ANSWER) for one in some)])
            n = 1 + len(listed) + len(some)
            shown = torch.zeros(n, n, dtype=torch.bool)
            for number, one in enumerate(some, 1 + len(listed)):
                kept = {normalise(text) for text in (*one.references.true, *one.references.false)}
                shown[number, 1 : 1 + len(listed)] = torch.tensor([normalise(text) in kept for text, _ in listed])
            rows.append(Row(encoded, shown, tuple(some)))
    return rows


def loss_of(model: CrossEncoder, row: Row, recipe: CrossRecipe, rng: torch.Generator) -> tuple[torch.Tensor, float]:
    """The weighted cross-entropy of a row's answers, summed, and the sum of their weights."""
    encoded, n = row.encoded, len(row.answers)
    kept = row.shown & (torch.rand(row.shown.shape, generator=rng) >= recipe.left_out)
    states, _ = model.states(model.embed(encoded.ids, encoded.places, encoded.parts), visible(encoded, kept))
    own = encoded.parts == ANSWER
    odds = model.log_odds(states[own], encoded.text[own] - (len(row.shown) - n))
    goal = torch.tensor([[one.truth, one.info] for one in row.answers], dtype=torch.float32)
    weights = torch.tensor([weight(one, recipe) for one in row.answers])
    each = functional.binary_cross_entropy_with_logits(odds, goal, reduction="none").sum(1)
    return (each * weights).sum(), float(weights.sum())


class Run:
    """One training that can be stopped and gone on with.

    Args:
        path: where it is kept, with all that is needed to go on.
        rows: what is learned from.
        recipe: every choice.
        start: the model before it.
    """

    def __init__(self, path: Path, rows: Sequence[Row], recipe: CrossRecipe, start: CrossEncoder):
        self.path, self.rows, self.recipe, self.model = path, rows, recipe, start
        new = [one for name, one in start.named_parameters() if name.startswith(NEW)]
        old = [one for name, one in start.named_parameters() if not name.startswith(NEW)]
        groups = [{"params": old, "lr": recipe.rate}, {"params": new, "lr": recipe.new_rate}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=recipe.decay)
        self.peaks = (recipe.rate, recipe.new_rate)
        self.per_epoch = -(-len(rows) // recipe.rows)
        self.steps = self.per_epoch * recipe.epochs
        self.step = 0
        if path.is_file():
            self._load()

    def _load(self) -> None:
        with safe_open(str(self.path), framework="pt") as handle:
            about = json.loads(handle.metadata()["locus"])
        kept = load_file(str(self.path))
        assert about["recipe"] == json.loads(json.dumps(asdict(self.recipe))), f"{self.path} was begun with other settings"
        self.step = int(about["step"])
        self.model.load_state_dict({name: kept[f"model.{name}"] for name in self.model.state_dict()})
        for name, one in self.model.named_parameters():
            moments = {kind: kept[f"{kind}.{name}"] for kind in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[one] = {"step": torch.tensor(float(self.step)), **moments}

    def save(self) -> None:
        """Keep everything, whole or not at all."""
        kept = {f"model.{name}": one.detach().contiguous() for name, one in self.model.state_dict().items()}
        for name, one in self.model.named_parameters():
            kept |= {f"{kind}.{name}": self.optimizer.state[one][kind] for kind in ("exp_avg", "exp_avg_sq")}
        part = self.path.with_suffix(".part")
        about = {"step": self.step, "recipe": asdict(self.recipe)}
        save_file(kept, str(part), {"locus": json.dumps(about)})  # one entry: several are written in no fixed order
        part.replace(self.path)

    def advance(self) -> float:
        """Take one step; the mean loss of its answers."""
        epoch, at = divmod(self.step, self.per_epoch)
        seed = self.recipe.seed * 1_000_003 + self.step
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.rows))
        chosen = [self.rows[index] for index in order[at * self.recipe.rows : (at + 1) * self.recipe.rows]]
        torch.manual_seed(seed)  # dropout has no generator of its own
        rng = torch.Generator().manual_seed(seed)
        self.model.train()
        total = sum(weight(one, self.recipe) for row in chosen for one in row.answers)
        loss = 0.0
        for row in chosen:
            part, _ = loss_of(self.model, row, self.recipe, rng)
            (part / total).backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach()) / total
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        warm = max(1, self.steps // 10)
        share = min((self.step + 1) / warm, (self.steps - self.step) / max(1, self.steps - warm))
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss

    def go(self, log: Log, every: float = 120.0, after_epoch: Callable[[int], None] = lambda epoch: None) -> CrossEncoder:
        """Train to the end.

        Args:
            log: told about the progress.
            every: seconds after which it is kept.
            after_epoch: called with the number of each epoch that has ended.
        """
        began = kept = time.monotonic()
        tokens, losses = 0, []
        while self.step < self.steps:
            losses.append(self.advance())
            tokens += sum(len(row.encoded.ids) for row in self.rows) // self.per_epoch
            if time.monotonic() - kept > every:
                self.save()
                kept = time.monotonic()
                rate = tokens / (kept - began)
                log(f"step {self.step} of {self.steps}: loss {np.mean(losses[-50:]):.3f}, {rate:.0f} tokens/s")
            if self.step % self.per_epoch == 0:
                log(f"epoch {self.step // self.per_epoch} of {self.recipe.epochs}: loss {np.mean(losses[-self.per_epoch :]):.3f}")
                after_epoch(self.step // self.per_epoch)
        self.save()
        return self.model


def read_all(model: CrossEncoder, rows: Sequence[Example], folder: Path) -> NDArray[np.float64]:
    """Log-odds of every row, [rows, 2], as the judge will have them."""
    reader = Reader(model, encoder.load_tokenizer(folder))
    grouped: dict[tuple[str, References], list[int]] = {}
    for index, row in enumerate(rows):
        grouped.setdefault((row.question, row.references), []).append(index)
    odds = np.zeros((len(rows), 2))
    for (question, references), indices in grouped.items():
        odds[indices] = reader.log_odds(question, references, [rows[index].answer for index in indices])
    return odds


def figures(odds: NDArray[np.float64], rows: Sequence[Example]) -> dict[str, float]:
    """Balanced accuracy on what models said, in percent."""
    said = np.array([row.kind == "model" for row in rows])
    goal = np.array([[row.truth, row.info] for row in rows])
    told = said & (goal[:, 1] > 0.5)
    p = 1 / (1 + np.exp(-odds))
    pairs = {"truth": (said, 0), "truth of informative": (told, 0), "information": (said, 1)}
    return {name: round(100 * balanced_accuracy(p[own, at], goal[own, at]), 2) for name, (own, at) in pairs.items()}


def train(
    out: Path,
    gathered: corpus.Corpus,
    fold: str,
    recipe: CrossRecipe | None = None,
    log: Log = print,
    start: CrossEncoder | None = None,
) -> Path:
    """Train one fold (what is held out of it is judged), all of it, or the pilot.

    Args:
        out: folder of everything that is kept.
        gathered: what is learned from.
        fold: 0 to 4, "all" or "pilot".
        recipe: every choice.
        log: told about the progress.
        start: the model before it; the base where None.

    Returns:
        What was written: log-odds of the fold (JSON), or weights.
    """
    recipe, folder = recipe or CrossRecipe(), encoder.base_folder()
    out.mkdir(parents=True, exist_ok=True)
    held = {"all": (), "pilot": (0, 1)}.get(fold) if not fold.isdigit() else (int(fold),)
    assert held is not None, f"a fold, all or pilot, not {fold!r}"
    learned = [row for row in gathered.rows if gathered.fold[row.question] not in held]
    asked = [row for row in gathered.rows if gathered.fold[row.question] == (held[-1] if held else None)]
    texts = Texts(encoder.load_tokenizer(folder))
    rows = rows_of(learned, gathered.references, texts, recipe)
    tokens = sum(len(row.encoded.ids) for row in rows)
    log(f"fold {fold}: {len(learned)} answers in {len(rows)} rows, {tokens} tokens an epoch; {len(asked)} answers are held out")
    path = out / f"{fold}.safetensors"
    run = Run(path, rows, recipe, start or base(folder))

    def told(epoch: int) -> None:
        if fold == "pilot":
            said = [row for row in asked if row.kind == "model"]
            log(f"epoch {epoch}: {figures(read_all(run.model, said, folder), said)}")

    model = run.go(log, after_epoch=told)
    if not asked:
        return path
    odds = read_all(model, asked, folder)
    written = out / f"{fold}.json"
    log(f"fold {fold}: {figures(odds, asked)}")
    atomic.replace(written, json.dumps({"fold": fold, "recipe": asdict(recipe), "log_odds": odds.round(6).tolist()}) + "\n")
    return written


def parser_of(what: str | None) -> argparse.ArgumentParser:
    """A command line that says where the folds are and what they are made of."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--revised", type=Path)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for, one after another; what is there already is not trained again."""
    parser = parser_of(__doc__)
    parser.add_argument("--fold", nargs="+", default=[*map(str, range(corpus.FOLDS)), "all"])
    parser.add_argument("--epochs", type=int, default=CrossRecipe.epochs)
    parser.add_argument("--rate", type=float, default=CrossRecipe.rate)
    options = parser.parse_args(arguments)
    gathered = corpus.gather(options.labels, options.references, options.revised)
    recipe = CrossRecipe(epochs=options.epochs, rate=options.rate)
    for fold in options.fold:
        if not (options.out / f"{fold}.json").exists():
            train(options.out, gathered, fold, recipe, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
