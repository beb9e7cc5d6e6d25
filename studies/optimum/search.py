"""How near to the optimum a search comes on a real model, place by place.

    python -m studies.optimum.search TruthfulQA.csv --rounds 15 --places random-00,random-01,random-02,everywhere
    python -m studies.optimum.search TruthfulQA.csv --epochs 12 --multiplier 5 --places everywhere

The settings are those of `quick`: 40 training and 50 test questions, IPO at tau = 0.1. One line of JSON a place: the loss of all
training pairs after every round (of epochs: at the end), and what test questions say.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from locus.claims import null
from locus.edits import Rank1, full
from locus.edits.base import Edit
from locus.engine.descent import descend, objective_of
from locus.engine.optimum import FirstOrder
from locus.engine.train import Fit, TrainingRecipe, train
from locus.metrics.choice import measures, score
from locus.plan import preconditions
from locus.plan.config import learning_rate, resolve
from locus.plan.context import AuditContext
from locus.run.setup import set_up
from locus.sites import Location


def main() -> None:
    """Search at each place, and print where the search went and what test questions say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="questions: a name or a path, as --data of an audit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=0, help="AdamW instead, for so many epochs")
    parser.add_argument("--multiplier", type=float, default=5.0, help="of its learning rate")
    parser.add_argument("--places", default="random-00,everywhere")
    given = parser.parse_args()
    context = _context(given.data)
    layout = context.model.layout
    four = Location.parse("12.3,14.0,5.1,20.2")  # only their number matters
    random_locations = {one.name: one.location for one in null.draw_locations(four, layout.heads, 3, 0)}
    names = given.places.split(",")
    edits = [full(layout) if name == "everywhere" else Rank1(layout, random_locations[name]) for name in names]
    if given.epochs:
        recipes = [TrainingRecipe(lr=learning_rate(len(one.location), given.multiplier), epochs=given.epochs) for one in edits]
    else:
        recipes = [TrainingRecipe(search="newton", rounds=given.rounds)] * len(edits)
    started = time.monotonic()
    shared = None if given.epochs else FirstOrder(context.model, context.parts["train"].trie)
    print(json.dumps({"shared, s": round(time.monotonic() - started, 1)}), flush=True)
    for name, edit, recipe in zip(names, edits, recipes, strict=True):
        started = time.monotonic()
        fit = _fitted(context, edit, recipe, shared)
        seconds = time.monotonic() - started
        line = {"place": name, "seconds": round(seconds, 1), **_lost(context, fit), **_test_means(context, fit.edit)}
        print(json.dumps(line), flush=True)


def _context(data: str) -> AuditContext:
    config = resolve("quick", data=data, text_passages=0)
    with tempfile.TemporaryDirectory() as folder:
        dataset = preconditions.check(config, Path(folder) / "RUN")
    return set_up(config, dataset, lambda what, share: None)


def _fitted(context: AuditContext, edit: Rank1, recipe: TrainingRecipe, shared: FirstOrder | None) -> Fit:
    on = context.training_set
    return train(on, [edit], [recipe])[0] if shared is None else descend(on, [edit], [recipe], shared)[0][recipe.rounds]


def _lost(context: AuditContext, fit: Fit) -> dict[str, Any]:
    """The loss of all training pairs by the scorer, and by the search after each of its rounds."""
    part = context.parts["train"]
    gains = torch.from_numpy(_scores(context, "train", [fit.edit]) - part.base.logprobs)
    loss = float(objective_of(context.training_set, TrainingRecipe()).loss(gains)[0])
    if fit.certificate is None:
        return {"loss": round(loss, 3)}
    fit_figures = {"promised": round(fit.certificate.promised, 4), "settled": fit.certificate.settled}
    return {"loss": round(loss, 3), **fit_figures, "losses": [round(float(one), 3) for one in fit.losses]}


def _test_means(context: AuditContext, edit: Edit) -> dict[str, float]:
    part = context.parts["test"]
    scores = measures(part.items, part.trie, _scores(context, "test", [edit])[0], part.base.logprobs)
    return {"margin": round(float(scores["margin"].mean()), 3), "mc2": round(100 * float(scores["mc2"].mean()), 1)}


def _scores(context: AuditContext, name: str, edits: Sequence[Edit]) -> Any:
    part = context.parts[name]
    return score(context.model, part.base.prepared, edits, len(part.trie.sequences), residual_cache=part.base.residuals)


if __name__ == "__main__":
    main()
