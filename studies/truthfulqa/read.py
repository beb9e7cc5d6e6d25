"""Print a judged run: every measure of every setting, comparisons with intervals, and twenty answers of each kind for reading.

`python studies/truthfulqa/read.py RUN [--data TruthfulQA.csv]`, finished or not; Markdown on standard output.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from locus import behaviours as datasets
from locus import stats
from locus.conclude.record import Arm, Record
from locus.plan import reading
from locus.records.store import Store

KINDS = ("base", "shift", "shift-random", "claim", "random", "complement", "ceiling")
MEASURES = ("truth", "info", "true_info", "blind_true_info", "mc1", "mc2")
COMPARED = ("true_info", "mc1", "mc2", "margin")
ANSWERS = 20


def settings(record: Record) -> list[tuple[str, str, list[str]]]:
    """Kind, setting, and the trials of all places and seeds that have it, in the plan's order."""
    trials_of_setting: dict[tuple[str, str], list[str]] = {}
    for trial in record.plan.trials:
        if trial.id in record.done:
            trials_of_setting.setdefault((trial.role, record.done[trial.id].setting or "as it is"), []).append(trial.id)
    return [(kind, setting, ids) for kind in KINDS for (role, setting), ids in trials_of_setting.items() if role == kind]


def percent(one: stats.Estimate) -> str:
    """A mean in percent with its interval."""
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"


def table(record: Record) -> str:
    """A line for each setting: means over its places and seeds, and the paired difference of True*Info from the base model."""
    (base,) = (ids for kind, _, ids in settings(record) if kind == "base")
    before = record.values(base[0], "true_info")
    heads = "kind | setting | places | True | Info | True*Info | blind | MC1 | MC2 | margin, nats | KL, nats | True*Info - base"
    lines = [f"| {heads} |", "| --- " * 12 + "|"]
    for kind, setting, ids in settings(record):
        values = {name: np.array([record.values(trial, name) for trial in ids]).mean(axis=0) for name in MEASURES}
        cells = [percent(stats.bootstrap_mean(values[name], groups=record.groups)) for name in MEASURES]
        cells += [f"{np.mean([record.values(trial, 'margin') for trial in ids]):.2f}" if kind != "base" else "0"]
        cells += [f"{np.mean([record.values(trial, 'kl', 'text') for trial in ids]):.3f}" if kind != "base" else ""]
        gain = percent(stats.paired_bootstrap(values["true_info"], before, groups=record.groups)) if kind != "base" else ""
        lines.append(f"| {kind} | {setting} | {len(ids)} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def comparisons(record: Record) -> str:
    """A line for each of the paper's statements that this run speaks to: paired differences by each measure.

    Intervals: 95 %, over questions; over places and questions where random Locations take part (`crossed_mean`).
    """
    shift, claim, ceiling = (record.find(kind)[:1] for kind in ("shift", "claim", "ceiling"))
    there, random = record.find("shift-random"), record.find("random")
    best = sorted(settings_of(record, shift), key=lambda arm: float(np.nanmean(record.of(arm, "true_info"))))[-1:]
    strength = best[0].setting if best else ""
    same = [replace(arm, setting=strength) for arm in there]
    asked = [
        ("ITI at the probed heads - ITI at random Locations", shift, there),
        (f"the same, both at {strength}", best, same),
        ("optimal edit - ITI, both at the probed heads", claim, shift),
        (f"optimal edit - ITI at {strength}, the best for True*Info of test questions", claim, best),
        ("optimal edits at random Locations - ITI there", random, there),
        ("probed heads - everywhere (optimal)", claim, ceiling),
        ("random Locations - everywhere (optimal)", random, ceiling),
        ("probed heads - random Locations (optimal)", claim, random),
    ]
    lines = [f"| difference | {' | '.join(COMPARED)} |", "| --- " * (len(COMPARED) + 1) + "|"]
    for words, first, second in asked:
        if not first or not second:
            continue
        cells = [difference(record, first, second, measure) for measure in COMPARED]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def settings_of(record: Record, arms: list[Arm]) -> list[Arm]:
    """The same arms with each of their settings as the chosen one."""
    return [replace(arm, setting=one) for arm in arms for one in dict.fromkeys(trial.setting for trial in arm.trials)]


def difference(record: Record, first: list[Arm], second: list[Arm], measure: str) -> str:
    """Mean of the first arms less mean of the second, percent or nats, with its interval."""
    one, other = (np.array([record.of(arm, measure).mean(axis=0) for arm in arms]) for arms in (first, second))
    if len(one) == len(other) == 1:
        estimate = stats.paired_bootstrap(one[0], other[0], groups=record.groups)
    else:  # where both are many, the second's mean is taken as it is
        spread = one - other.mean(axis=0) if len(one) > 1 else one[0] - other
        estimate = stats.crossed_mean(spread[:, None, :], record.groups).interval(0.95)
    scale, digits = (1, 2) if measure == "margin" else (100, 1)
    return f"{scale * estimate.value:+.{digits}f} [{scale * estimate.low:+.{digits}f}, {scale * estimate.high:+.{digits}f}]"


def answers(record: Record, questions: dict[str, str]) -> str:
    """What the first trial of each kind's chosen setting says to the same twenty questions, with the judge's opinion."""
    items = record.items["test"][:: max(1, len(record.items["test"]) // ANSWERS)][:ANSWERS]
    parts = []
    for kind in KINDS:
        for arm in record.find(kind)[:1]:
            trial = arm.chosen[0]
            texts, places = record.store.texts(trial, "test"), [record.items["test"].index(item) for item in items]
            truth, info = (record.values(trial, name)[places] for name in ("truth", "info"))
            parts.append(f"## {kind}: {arm.name}, {arm.setting or 'as it is'}\n")
            for item, t, i in zip(items, truth, info, strict=True):
                text = " ".join(texts[item].split()) or "(silence)"
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
    record = Record(reading.read_plan(given.run), store)
    wording = {item.id: item.question for item in datasets.load(given.data).items} if given.data else {}
    print(table(record), comparisons(record), answers(record, wording), sep="\n\n")
    store.close()


if __name__ == "__main__":
    main()
