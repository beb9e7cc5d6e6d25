"""Measure any judges on answers that people labelled, against the labels and against one another.

A file has the columns question, answer, truthful and informative (yes or no; both left empty where nobody has looked). Figures
are of labelled answers; where there are others, each judge's rates on them are corrected by what the labels show of its errors.
"""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from locus import atomic
from locus.behaviours.items import Dataset
from locus.boundary.spreadsheet import write_csv
from locus.errors import UserError
from locus.judges import evaluate
from locus.judges.api import ApiJudge
from locus.judges.base import Judge, Judgement, Learner, References, commonest, counted
from locus.judges.blind import BlindJudge
from locus.judges.examples import Example, kind_of, labelled_rows, without
from locus.judges.figures import Comparison, Disputed, JudgeFigures, PairAgreement, TargetAgreement
from locus.judges.local import file_hash
from locus.stats.agreement import cohen_kappa
from locus.stats.judged import corrected_rate, ppi_mean

DISPUTED = 20
TARGETS = ("truth", "info")
SCHEMA = "locus-judges/1"


@dataclass(frozen=True)
class Labels:
    """A file of answers.

    Attributes:
        rows: in the file's order; truth and info are NaN where nobody labelled them.
        sides: references of the questions that have them.
        name: of the file.
        sha256: of the file.
    """

    rows: tuple[Example, ...]
    sides: dict[str, References]
    name: str
    sha256: str

    def keep(self, condition: Callable[[Example], bool]) -> "Labels":
        """Only some of the rows."""
        rows = tuple(row for row in self.rows if condition(row))
        questions = {row.question for row in rows}
        return replace(self, rows=rows, sides={question: refs for question, refs in self.sides.items() if question in questions})


def read_labels(path: Path, dataset: Dataset | None) -> Labels:
    """Read a file of answers, each with the references of its question but for the answer itself.

    Args:
        path: CSV with the columns question, answer, truthful, informative; a column is_reference_answer (1 or 0) sets references
            apart from what models said, and only the latter are measured.
        dataset: where references come from; none where no judge reads them.

    Raises:
        UserError: naming missing columns, or the lines with labels other than yes and no.
    """
    items = {item.question.strip(): item for item in dataset.items} if dataset else {}
    examples = []
    for row, (truth, info) in labelled_rows(path):
        question, answer = row["question"].strip(), row["answer"].strip()
        item = items.get(question)
        sides = without(References(item.wanted, item.unwanted), answer) if item else References()
        examples.append(Example(question, answer, truth, info, sides, kind_of(row), item.category if item else ""))
    answers = tuple(row for row in examples if row.kind == "model")
    items_of = {row.question: items[row.question] for row in answers if row.question in items}
    sides_of = {question: References(item.wanted, item.unwanted) for question, item in items_of.items()}
    return Labels(answers, sides_of, path.name, file_hash(path))


def check_labels(judges: Sequence[Judge], labels: Labels) -> None:
    """Refuse what cannot be measured.

    Raises:
        UserError: if no answer is labelled, or a judge that reads references lacks those of some questions.
    """
    if not any(not math.isnan(row.truth) for row in labels.rows):
        raise UserError("at least one labelled answer", f"none in {labels.name}", "Label some answers with yes or no.")
    lacking = sorted({row.question for row in labels.rows if not (row.references.true and row.references.false)})
    if lacking and (reading := [judge.name for judge in judges if isinstance(judge, Learner)]):
        raise UserError(
            f"true and false references of every question, for the judge {reading[0]}",
            f"{len(lacking)} questions without, such as {lacking[0][:80]!r}",
            "Give --references a dataset that has these questions, leave them out, or choose another judge.",
        )


def unseen(judges: Sequence[Judge], labels: Labels) -> Labels:
    """The answers to questions that no judge learned from, as far as judges know from which.

    Raises:
        UserError: if there are none.
    """
    questions = sorted({row.question for row in labels.rows})
    learned: set[str] = set()
    for judge in judges:
        if isinstance(judge, Learner):
            learned |= {question for question, learned_from in zip(questions, judge.seen(questions), strict=True) if learned_from}
    remaining = labels.keep(lambda row: row.question not in learned)
    if not any(not math.isnan(row.truth) for row in remaining.rows):
        raise UserError(
            "labelled answers to questions that no judge learned from",
            f"{len(labels.rows)} answers in {labels.name}, all to questions that one of them knows",
            "Label answers to other questions, or give --seen and read the figures as too good.",
        )
    return remaining


def left_out(every: Labels, kept: Labels) -> list[str]:
    """The questions whose answers were not kept."""
    return sorted({row.question for row in every.rows} - {row.question for row in kept.rows})


def outlook(judges: Sequence[Judge], labels: Labels) -> list[str]:
    """What judging will take, a line for each judge that costs money.

    Raises:
        UserError: if that may pass a judge's cap; nothing has been asked then.
    """
    lines, rows = [], labels.rows
    for judge in judges:
        if isinstance(judge, ApiJudge):
            columns = [row.question for row in rows], [row.answer for row in rows], [row.references for row in rows]
            count, most = judge.outlook(*columns)
            judge.purse.afford(most)
            priced = f", at most {most:.4g} by the prices given" if any(judge.purse.prices) else ""
            lines.append(f"{judge.name}: {count} requests{priced}")
    return lines


def compare_judges(judges: Sequence[Judge], labels: Labels) -> Comparison:
    """Every figure of every judge, the blind control among them, and how far they agree.

    Args:
        judges: judges of different fingerprints.
        labels: the answers they are measured on.

    Returns:
        What `write_comparison` writes.

    Raises:
        UserError: as the judges do.
    """
    every = list({judge.fingerprint: judge for judge in (*judges, BlindJudge())}.values())
    judgements = {judge.fingerprint: _opinions(judge, labels) for judge in every}
    return {
        "schema": SCHEMA,
        "labels": {"name": labels.name, "sha256": labels.sha256, "answers": len(labels.rows)},
        "judges": {judge.fingerprint: _figures_of_judge(judge, labels, judgements[judge.fingerprint]) for judge in every},
        "agreement": [_agreement(pair, judgements) for pair in itertools.combinations(every, 2)],
        "disputed": _disputed(every, judgements, labels),
        "judgements": _table(every, judgements, labels),
    }


def _opinions(judge: Judge, labels: Labels) -> list[Judgement]:
    """What a judge says of every answer.

    Raises:
        UserError: with the commonest reasons, if it scored none.
    """
    judgements = evaluate.judge_examples(judge, labels.rows)
    if not any(one.scored for one in judgements):
        reasons = commonest(one.reason for one in judgements)
        raise UserError(
            f"an answer that {judge.name} scores", f"{len(judgements)}, none scored: {reasons}", "Choose another judge."
        )
    return judgements


def _table(judges: Sequence[Judge], judgements: dict[str, list[Judgement]], labels: Labels) -> list[dict[str, object]]:
    """A row for each answer, with what every judge says of it."""
    titles, rows = _titles(judges), []
    for number, row in enumerate(labels.rows):
        cells: dict[str, object] = {
            "question": row.question,
            "answer": row.answer,
            "truthful": row.truth,
            "informative": row.info,
        }
        for fingerprint, title in titles.items():
            cells |= {f"{title} {field}": getattr(judgements[fingerprint][number], field) for field in (*TARGETS, "reason")}
        rows.append(cells)
    return rows


def _titles(judges: Sequence[Judge]) -> dict[str, str]:
    """What each judge is called, by fingerprint: its name, and where several share one, the fingerprint's beginning."""
    names = [judge.name for judge in judges]
    return {j.fingerprint: j.name if names.count(j.name) == 1 else f"{j.name} {j.fingerprint[:8]}" for j in judges}


def _figures_of_judge(judge: Judge, labels: Labels, judgements: Sequence[Judgement]) -> JudgeFigures:
    """All figures of one judge on the labelled answers, and its rates on the others."""
    # A dozen probes a question are not put to a judge that costs money.
    references = {} if isinstance(judge, ApiJudge) else labels.sides
    labelled = [(row, one) for row, one in zip(labels.rows, judgements, strict=True) if not math.isnan(row.truth)]
    rows, opinions = [row for row, _ in labelled], [one for _, one in labelled]
    figures = evaluate.figures_of_judge(judge, rows, opinions, references)
    figures["unscored"] = counted(one.reason for one in judgements)
    unlabelled = [one for row, one in zip(labels.rows, judgements, strict=True) if math.isnan(row.truth)]
    if unlabelled:
        figures["unlabelled"] = {target: _rate(target, rows, opinions, unlabelled) for target in TARGETS}
    return figures


def _rate(
    target: str, rows: Sequence[Example], opinions: Sequence[Judgement], unlabelled: Sequence[Judgement]
) -> dict[str, object]:
    """A judge's rate on answers nobody labelled: as it says, with its errors taken out, and prediction-powered."""

    def halved(judgements: Sequence[Judgement]) -> list[float]:
        return [float(getattr(one, target) >= 0.5) if one.scored else math.nan for one in judgements]

    labels = [getattr(row, target) for row in rows]
    errors = evaluate.confusions(rows, opinions)[target]
    raw = np.array(halved(unlabelled))
    return {
        "n": len(unlabelled),
        "as judged": float(np.nanmean(raw)) if np.isfinite(raw).any() else None,
        "corrected": corrected_rate(raw, errors).to_dict(),
        "prediction-powered": ppi_mean(raw, halved(opinions), labels, weight=None).to_dict(),
    }


def _agreement(pair: tuple[Judge, Judge], judgements: dict[str, list[Judgement]]) -> PairAgreement:
    """Cohen's kappa of two judges, and the share of answers on which they differ, over answers both scored."""
    scored = [(a, b) for a, b in zip(*(judgements[judge.fingerprint] for judge in pair), strict=True) if a.scored and b.scored]

    def of_target(target: str) -> TargetAgreement:
        first, second = (
            ([getattr(one, target) >= 0.5 for one in column] for column in zip(*scored, strict=True)) if scored else ([], [])
        )
        differ = float(np.mean(np.array(first) != np.array(second))) if scored else None
        return {"kappa": cohen_kappa(first, second).to_dict(), "differ": differ}

    names = [judge.name for judge in pair]
    return {"judges": names, "n": len(scored), "truth": of_target("truth"), "info": of_target("info")}


def _disputed(judges: Sequence[Judge], judgements: dict[str, list[Judgement]], labels: Labels) -> list[Disputed]:
    """The answers on whose truth the judges that read more than wording are furthest apart."""
    reading = [judge for judge in judges if not isinstance(judge, BlindJudge)]
    if len(reading) < 2:
        return []
    table = np.array([[one.truth for one in judgements[judge.fingerprint]] for judge in reading])
    titles = [_titles(judges)[judge.fingerprint] for judge in reading]
    spread = np.nan_to_num(table.max(axis=0) - table.min(axis=0), nan=-1.0)
    return [
        {
            "question": labels.rows[k].question,
            "answer": labels.rows[k].answer,
            "truthful": None if math.isnan(labels.rows[k].truth) else labels.rows[k].truth,
            "truth": {title: float(table[row, k]) for row, title in enumerate(titles)},
        }
        for k in np.argsort(-spread, kind="stable")[:DISPUTED]
        if spread[k] > 0
    ]


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Write figures.json and judgements.csv, each whole or not at all.

    Raises:
        UserError: if the folder cannot be written.
    """
    judgements = comparison["judgements"]
    figures = {name: value for name, value in comparison.items() if name != "judgements"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        atomic.replace(out / "figures.json", json.dumps(_plain(figures), indent=1, allow_nan=False) + "\n")
        write_csv(out / "judgements.csv", list(judgements[0]), [[_brief(value) for value in row.values()] for row in judgements])
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(out)!r} ({error})", "Give another --out.") from error


def _plain(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _brief(value: Any) -> Any:
    """Numbers to four digits, an empty cell for NaN."""
    return (None if math.isnan(value) else float(f"{value:.4g}")) if isinstance(value, float) else value
