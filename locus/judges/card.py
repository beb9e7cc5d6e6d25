"""The figures of the model card: measured on test questions, written between two marks of CARD.md.

`python -m locus.judges.card LABELS REFERENCES [--write CARD.md]`, which also writes measured.json beside this file.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from locus.errors import UserError
from locus.judges import evaluate, examples
from locus.judges.base import Judge, References
from locus.judges.blind import BlindJudge
from locus.judges.examples import Example
from locus.judges.figures import JudgeFigures, Spread, TargetFigures
from locus.judges.local import LocalJudge

Target = Literal["truth", "truth_of_informative", "info"]
# What a corrected rate needs of these figures, by the judge's fingerprint.
MEASURED = Path(__file__).with_name("measured.json")
START, END = "<!-- figures: written by locus.judges.card -->", "<!-- end of figures -->"


def held_out(labels: Path, references: Path, split_seed: int = 0) -> tuple[list[Example], dict[str, References]]:
    """Labelled model answers to test questions, and the references of all test questions.

    Args:
        labels: CSV of labelled answers.
        references: TruthfulQA's CSV.
        split_seed: the one the judge was trained with.
    """
    references_of, category = examples.read_references(references)
    part_of_question = examples.part_of(references_of, split_seed)
    rows = examples.read_examples(labels, references_of, category)
    test_rows = [row for row in rows if part_of_question[row.question] == "test" and row.kind == "model"]
    return test_rows, {question: refs for question, refs in references_of.items() if part_of_question[question] == "test"}


def spread(value: Spread) -> str:
    """A value with its interval, in percent."""
    return f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def overview(measured: Sequence[JudgeFigures]) -> str:
    """One line for each judge and target."""
    titles: dict[Target, str] = {
        "truth": "truth",
        "truth_of_informative": "truth, informative answers only",
        "info": "informative",
    }
    rows = []
    for key, title in titles.items():
        for figures in measured:
            line: TargetFigures = figures[key]
            calibration = line["calibration"]
            rows.append(
                [
                    title,
                    figures["judge"],
                    f"{line['n']} ({line['n_questions']})",
                    line["n_unscored"],
                    f"{100 * line['share_yes']:.1f}",
                    *map(spread, (line["accuracy"], line["balanced_accuracy"], line["auc"])),
                    f"{100 * calibration['error']:.1f}",
                    f"{100 * line['mean_gap']:+.1f}",
                    " / ".join(str(count) for count in line["confusion"]),
                ]
            )
    head = ["target", "judge", "answers (questions)", "unscored", "yes %", "accuracy %", "balanced accuracy %", "AUC %"]
    return table([*head, "calibration error %", "mean p - share, points", "tp / fp / fn / tn"], rows)


def calibration_table(figures: JudgeFigures, key: Target) -> str:
    """The reliability table of one target."""
    line = figures[key]["calibration"]
    rows = [
        [f"{100 * confidence:.1f}", f"{100 * accuracy:.1f}", count]
        for confidence, accuracy, count in zip(line["confidence"], line["accuracy"], line["count"], strict=True)
    ]
    return table(["mean probability %", "share of yes %", "answers"], rows)


def breakdown(accuracies: dict[str, tuple[int, float, float]], title: str) -> str:
    """Accuracy of both targets by a property."""
    rows = [[name, n, f"{100 * t:.1f}", f"{100 * i:.1f}"] for name, (n, t, i) in accuracies.items()]
    return table([title, "n", "truth accuracy %", "information accuracy %"], rows)


def render(measured: Sequence[JudgeFigures]) -> str:
    """All tables, Markdown; breakdowns are of the first judge.

    Args:
        measured: what `evaluate.measure` returned for each judge.
    """
    first = measured[0]
    paragraphs = [
        f"Weights and code: `{first['fingerprint'][:16]}`. Brackets are 95% bootstrap intervals over questions.",
        overview(measured),
        f"Reliability of `{first['judge']}`, truth, in ten bins of equally many answers:",
        calibration_table(first, "truth"),
        "The same, informativeness:",
        calibration_table(first, "info"),
        "Gaming probes, made from the references of the test questions (an accuracy is the share judged as deserved):",
        breakdown(first["by_probe"], "probe"),
        "By length of the answer in words:",
        breakdown(first["by_length"], "words"),
        "By category:",
        breakdown(first["by_category"], "category"),
    ]
    return "\n\n".join(paragraphs)


def write_card(card: Path, text: str) -> None:
    """Replace what lies between the marks.

    Raises:
        UserError: if the marks are not there.
    """
    old = card.read_text(encoding="utf-8") if card.is_file() else ""
    if START not in old or END not in old:
        raise UserError(f"a card with the lines {START!r} and {END!r}", f"{card.name} without them", "Add both lines.")
    before, after = old.split(START, 1)
    card.write_text(f"{before}{START}\n\n{text}\n\n{END}{after.split(END, 1)[1]}", encoding="utf-8")


def evaluate_judges(labels: Path, references: Path, judges: Sequence[Judge] = ()) -> list[JudgeFigures]:
    """Every figure of each judge on the test questions; the shipped judge and the blind control by default."""
    rows, questions = held_out(labels, references)
    return [evaluate.evaluate_judge(judge, rows, questions) for judge in judges or (LocalJudge(), BlindJudge())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures as Markdown, or write them into a card; `--json` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("references", type=Path)
    parser.add_argument("--write", type=Path, help="the card whose figures are replaced")
    parser.add_argument("--also", type=Path, action="append", default=[], help="other trained weights to compare with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    judges: list[Judge] = [LocalJudge(), *(LocalJudge(weights) for weights in options.also), BlindJudge()]
    measured = evaluate_judges(options.labels, options.references, judges)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    if options.write:
        write_card(options.write, render(measured))
        confusions = {
            figures["fingerprint"]: {"judge": figures["judge"], "confusion": figures["confusion"]} for figures in measured
        }
        MEASURED.write_text(json.dumps(confusions, indent=1) + "\n", encoding="utf-8")
    else:
        print(render(measured))


if __name__ == "__main__":
    main()
