"""What the unedited model reaches on each behaviour of the package, and what the optimal edit of all heads reaches.

    python -m studies.behaviours.ceilings antonym language     # writes studies/behaviours/NAME.json
    python -m studies.behaviours.ceilings --collect            # writes figures.json of the package, and its table in docs

The settings are those of `quick`: 40 training and 50 test questions, as many rounds as it takes. A receipt holds the settings,
the hashes of questions, split and model, the versions, the loss after every round, and each test question's scores: the figures
follow from it.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from locus import registry
from locus.behaviours import figures
from locus.edits import full
from locus.engine.descent import descend
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe
from locus.machine.versions import versions
from locus.metrics.choice import measures, score
from locus.models.configured import load_configured
from locus.models.model import Model
from locus.plan import preconditions
from locus.plan.config import resolve
from locus.plan.opened import Opened
from locus.run.setup import set_up
from locus.stats.bootstrap import bootstrap_mean

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parents[1] / "docs/behaviours.md", "<!-- figures -->", "<!-- end of figures -->"
SETTINGS: dict[str, Any] = {"text_passages": 0}
LEVELS = {"base": 0.95, "ceiling": 0.95, "gain": 0.9}


def main() -> None:
    """Measure behaviours one after the other, or collect what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--collect", action="store_true")
    given = parser.parse_args()
    model = None
    for name in given.names:
        model = model or load_configured(resolve("quick"))
        receipt = _measured(name, model)
        (HERE / f"{name}.json").write_text(json.dumps(receipt, indent=1, ensure_ascii=False) + "\n")
        print(json.dumps(figures_of(receipt)), flush=True)
    if given.collect:
        figures.PATH.write_text(json.dumps(list(map(figures_of, receipts())), indent=1) + "\n")
        before, begin, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{begin}\n{table()}\n{END}{rest.partition(END)[2]}")


def receipts() -> list[dict[str, Any]]:
    """What was measured, in the order of the registry."""
    paths = (HERE / f"{name}.json" for name in registry.entries("behaviours"))
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def _measured(name: str, model: Model) -> dict[str, Any]:
    """A behaviour's receipt."""
    started = time.monotonic()
    config = resolve("quick", data=name, **SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        dataset = preconditions.check(config, Path(folder) / "RUN")
    context = set_up(config, dataset, lambda what, share: None, opened=Opened(model=model))
    recipe = TrainingRecipe(search="newton", rounds=config.rounds, tau=context.taus[0])
    shared = FirstOrder(model, context.parts["train"].trie)
    fit = descend(context.training_set, [full(model.layout)], [recipe], shared)[0][recipe.rounds]
    part = context.parts["test"]
    edited = score(model, part.base.prepared, [fit.edit], len(part.trie.sequences), residual_cache=part.base.residuals)[0]
    scores = {
        when: measures(part.items, part.trie, logprobs, part.base.logprobs)
        for when, logprobs in (("base", part.base.logprobs), ("ceiling", edited))
    }
    return {
        "behaviour": name,
        "settings": {"preset": "quick", **SETTINGS},
        "model": {"name": model.name, "fingerprint": model.fingerprint, "dtype": str(model.dtype)},
        "data": {"sha256": dataset.sha256, "items": len(dataset.items), "form": dataset.form},
        "split": context.split.sha256,
        "prompt": context.prompt.sha256,
        "versions": versions(),
        "seconds": round(time.monotonic() - started),
        "train": len(context.parts["train"].items),
        "rounds": recipe.rounds,
        "tau": recipe.tau,
        "losses": [round(float(loss), 4) for loss in fit.losses],
        "settled": bool(fit.certificate and fit.certificate.settled),
        "questions": [
            {
                "id": item.id,
                "group": item.group,
                **{
                    when: {metric: round(float(of[metric][index]), 5) for metric in figures.METRICS}
                    for when, of in scores.items()
                },
            }
            for index, item in enumerate(part.items)
        ],
    }


def figures_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """The figures that follow from a receipt, groups of questions resampled."""
    questions = receipt["questions"]
    groups = [one["group"] for one in questions]
    measured = {}
    for metric in figures.METRICS:
        base, ceiling = ([one[when][metric] for one in questions] for when in ("base", "ceiling"))
        values = {"base": base, "ceiling": ceiling, "gain": [after - before for before, after in zip(base, ceiling, strict=True)]}
        estimates = {name: bootstrap_mean(of, groups=groups, level=LEVELS[name]) for name, of in values.items()}
        measured[metric] = {name: [round(one.value, 4), round(one.low, 4), round(one.high, 4)] for name, one in estimates.items()}
    return {
        "behaviour": receipt["behaviour"],
        "model": receipt["model"]["name"],
        "sha256": receipt["data"]["sha256"],
        "train": receipt["train"],
        "test": len(questions),
        "groups": len(set(groups)),
        "settled": receipt["settled"],
        **measured,
        "receipt": f"studies/behaviours/{receipt['behaviour']}.json",
    }


def table() -> str:
    """The figures as a table of Markdown."""
    if not receipts():
        return "None is measured yet."
    heads = "behaviour | kind | n | base MC1, % | ceiling MC1, % | gain, points | gain of MC2, points | gain, nats"
    lines = [f"| {heads} |", "| --- " * 8 + "|"]
    for receipt in receipts():
        row = figures_of(receipt)
        rates = [_span(row["mc1"][part], 100, "") for part in ("base", "ceiling")]
        gains = [_span(row[metric]["gain"], scale, "+") for metric, scale in (("mc1", 100), ("mc2", 100), ("margin", 1))]
        kind = "form" if receipt["data"]["form"] else "content"
        name = f"[{row['behaviour']}](../{row['receipt']})"
        cells = [name, kind, f"{row['test']} ({row['groups']})", *rates, *gains]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(value: list[float], scale: float, plus: str) -> str:
    middle, low, high = (f"{scale * one:{plus}z.1f}" for one in value)
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
