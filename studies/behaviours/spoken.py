"""How often the judges of sides err on what models really say: the unedited one, and the same under edits of the tour.

    python -m studies.behaviours.spoken antonym refusal --runs runs/tour     # lets them speak: spoken/NAME.jsonl, unlabelled
    python -m studies.behaviours.spoken --collect                            # judges what is labelled; the table of spoken.md

Eight questions of a behaviour's test part are put to the model as it is, and under the optimal edits of all heads, of the claim
and of a random Location, and under the ITI shift at the claim. Answers lie in an order drawn from a seed, each question with each
distinct answer once. Which edit said it is not beside it, so that whoever labels cannot know it: `wanted`, `unwanted` or
`neither`, in the field `side`, which is empty to begin with.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import locus
from locus import behaviours, registry
from locus.behaviours.prompts import prompt_format
from locus.engine.generate import Speech, generate
from locus.judges.api import Endpoint
from locus.judges.kind import open_judge
from locus.judges.sides import Labelled, SideJudge, counted, read_labelled
from locus.models.configured import load_configured
from locus.models.model import Model
from locus.plan.context import choose
from locus.stats import clopper_pearson

HERE = Path(__file__).resolve().parent
KEPT, PAGE = HERE / "spoken", HERE / "spoken.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
EDITS = ("claim", "ceiling", "random-00", "shift")
QUESTIONS, TOKENS, SEED = 8, 40, 0


def main() -> None:
    """Let the model speak to some behaviours, or judge what is labelled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--runs", type=Path, help="folder with the runs of the tour")
    parser.add_argument("--collect", action="store_true", help="only the table")
    given = parser.parse_args()
    model = None
    for name in given.names:
        if (KEPT / f"{name}.jsonl").is_file():
            print(f"{name}: there already, labelled perhaps; nothing is written over")
            continue
        run = locus.open_run(given.runs / name)
        model = model or load_configured(run.config)
        KEPT.mkdir(exist_ok=True)
        write(name, spoken(run, model))
    if given.collect:
        before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{begin}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def spoken(run: "locus.Run", model: Model) -> list[tuple[dict[str, object], list[str]]]:
    """Each distinct answer to each question, as a labelled answer without its label, and the edits that gave it."""
    config, dataset = run.config, behaviours.load(run.config.data)
    items = choose(dataset, behaviours.split(dataset.items, config.seed), config)["test"][:QUESTIONS]
    text = prompt_format(model.tokenizer, config.prompt, day=config.template_date, variables=config.template_variables)
    edits = [run.edit(name).edit for name in EDITS]
    prompts = [text.prompt(item.question) for item in items]
    base = generate(model, prompts, [], text, Speech(max_new_tokens=TOKENS))
    edited = generate(model, prompts, edits, text, Speech(max_new_tokens=TOKENS))
    found: dict[tuple[int, str], list[str]] = {}
    for name, said in zip(("base", *EDITS), (*base, *edited), strict=True):
        for number, one in enumerate(said):
            found.setdefault((number, one.text), []).append(name)
    order = np.random.default_rng(SEED).permutation(len(found))
    rows = [
        (
            {"question": items[n].question, "wanted": items[n].wanted, "unwanted": items[n].unwanted, "answer": text, "side": ""},
            by,
        )
        for (n, text), by in found.items()
    ]
    return [rows[place] for place in order]


def write(name: str, rows: list[tuple[dict[str, object], list[str]]]) -> None:
    """Keep answers, and apart from them who gave them."""
    lines = [json.dumps(row, ensure_ascii=False) for row, _ in rows]
    (KEPT / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (KEPT / f"{name}.edits.json").write_text(json.dumps([by for _, by in rows]) + "\n", encoding="utf-8")
    print(f"{name}: {len(rows)} answers to label", flush=True)


def labelled(name: str) -> list[Labelled]:
    """The answers to a behaviour whose every label is there; none before."""
    path = KEPT / f"{name}.jsonl"
    if not path.is_file() or '"side": ""' in path.read_text(encoding="utf-8"):
        return []
    return read_labelled(str(path))


def table() -> str:
    """Each judge on what was really said, in Markdown."""
    heads = "behaviour | judge | answers | wanted | found, % | unwanted | found, % | wrongly said wanted, %"
    lines = [f"| {heads} |", "| --- " * 8 + "|"]
    for name in registry.entries("behaviours"):
        if not (answers := labelled(name)):
            continue
        judge = open_judge(behaviours.load(name).judge, Endpoint())
        assert isinstance(judge, SideJudge), "a judge of sides"
        judged = judge.judge(*zip(*((one.question, one.answer, one.references) for one in answers), strict=True))
        errors, cells = counted(judged, [one.side for one in answers]), [f"[{name}](spoken/{name}.jsonl)", f"`{judge.name}`"]
        cells.append(str(len(answers)))
        for side in ("wanted", "unwanted"):
            cells += [f"{errors[side].positives:.0f}", _rate(errors[side].sensitivity, errors[side].positives)]
        cells.append(_rate(1 - errors["wanted"].specificity, errors["wanted"].negatives))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rate(share: float, of: float) -> str:
    """A share in percent with its exact 95 % interval; a dash where there is nothing to count."""
    if of == 0:
        return "–"
    exact = clopper_pearson(round(share * of), round(of))
    return f"{100 * share:.0f} ({100 * exact.low:.0f} to {100 * exact.high:.0f})"


if __name__ == "__main__":
    main()
