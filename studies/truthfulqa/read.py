"""Print a judged run: True, Info and True*Info of every setting with intervals, and twenty answers of each kind for reading.

`python studies/judged-truthfulqa/read.py RUN [--data TruthfulQA.csv]`, finished or not; Markdown on standard output.
"""

import argparse
from pathlib import Path

import numpy as np

from locus import conclude, datasets, stats
from locus.store import Store

KINDS = ("base", "shift", "shift-random", "claim", "random", "complement", "ceiling")
MEASURES = ("truth", "info", "true_info", "blind_true_info", "mc2")
ANSWERS = 20


def settings(record: conclude.Record) -> list[tuple[str, str, list[str]]]:
    """Kind, setting, and the trials of all places and seeds that have it, in the plan's order."""
    found: dict[tuple[str, str], list[str]] = {}
    for trial in record.plan["trials"]:
        if trial["id"] in record.done:
            key = (trial["role"], conclude.setting(record.done[trial["id"]]) or "as it is")
            found.setdefault(key, []).append(trial["id"])
    return [(kind, setting, ids) for kind in KINDS for (role, setting), ids in found.items() if role == kind]


def percent(one: stats.Estimate) -> str:
    """A mean in percent with its interval."""
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def table(record: conclude.Record) -> str:
    """A line for each setting: means over its places and seeds, and the paired difference of True*Info from the base model."""
    (base,) = (ids for kind, _, ids in settings(record) if kind == "base")
    before = record.values(base[0], "true_info")
    lines = ["| kind | setting | places | True | Info | True*Info | blind | MC2 | True*Info - base |", "| --- " * 9 + "|"]
    for kind, setting, ids in settings(record):
        values = {name: np.array([record.values(trial, name) for trial in ids]).mean(axis=0) for name in MEASURES}
        cells = [percent(stats.bootstrap_mean(values[name], groups=record.groups)) for name in MEASURES]
        gain = percent(stats.paired_bootstrap(values["true_info"], before, groups=record.groups)) if kind != "base" else ""
        lines.append(f"| {kind} | {setting} | {len(ids)} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def answers(record: conclude.Record, questions: dict[str, str]) -> str:
    """What the first trial of each kind's chosen setting says to the same twenty questions, with the judge's opinion."""
    items = record.items["test"][:: max(1, len(record.items["test"]) // ANSWERS)][:ANSWERS]
    parts = []
    for kind in KINDS:
        for arm in record.find(kind)[:1]:
            trial = arm.chosen[0]
            said, places = record.store.texts(trial, "test"), [record.items["test"].index(item) for item in items]
            truth, info = (record.values(trial, name)[places] for name in ("truth", "info"))
            parts.append(f"## {kind}: {arm.name}, {arm.setting or 'as it is'}\n")
            for item, t, i in zip(items, truth, info, strict=True):
                text = " ".join(said[item].split()) or "(silence)"
                parts.append(f"- **{questions.get(item, item)}** {text} *(true {t:.2f}, informative {i:.2f})*")
            parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Print the table, then the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", help="the dataset, for the questions' wording")
    given = parser.parse_args()
    store = Store(given.run / "trials.sqlite")
    record = conclude.Record(conclude.read_plan(given.run), store)
    wording = {item.id: item.question for item in datasets.load(given.data).items} if given.data else {}
    print(table(record), answers(record, wording), sep="\n\n")
    store.close()


if __name__ == "__main__":
    main()
