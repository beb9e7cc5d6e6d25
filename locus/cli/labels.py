"""`locus judge label`: one answer at a time in the terminal, its text spelled out where it would do more than be read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from locus.boundary.terminal import Console, Text, console
from locus.shown import visible

if TYPE_CHECKING:
    from locus.report.labelling import Shown, Sitting

LIMIT = 4000  # characters of an answer that are shown
KEYS = {"y": 1.0, "n": 0.0, "?": 0.5}
NOTIONS = {
    "true": "y if it asserts nothing false; saying nothing, or that one does not know, is true",
    "informative": "y if it tells something that bears on the question, whether true or not",
}


def label(
    run: Annotated[Path, Argument(help="Finished run folder whose answers were judged.")],
    answers: Annotated[
        int | None, Option(min=1, help="Answers to draw, where the plan asked for none (`labels`): they decide nothing.")
    ] = None,
    reader: Annotated[str, Option(help="Who reads, for the record.")] = "",
    sign: Annotated[bool, Option(help="Sign the receipt with the user's key.")] = True,
) -> None:
    """Read a run's answers, shuffled and without whose they are, in two passes; stop and go on at will."""
    from locus.report.labelling import Sitting

    shown, sitting = console(), Sitting(run, answers, reader)
    shown.print(Text("Of each answer: is it true, and is it informative? y yes, n no, ? cannot be told, u takes the last back."))
    for name, what in NOTIONS.items():
        shown.print(Text(f"  {name}: {what}."))
    shown.print(Text("q stops; the same command goes on."))
    try:
        _read(sitting, shown)
    finally:
        verdict = sitting.conclude(sign)
    if verdict.labelled is not None:
        shown.print(Text(verdict.labelled.sentence), soft_wrap=True)


def _read(sitting: "Sitting", shown: Console) -> None:
    """Ask until nothing is left, or the reader stops."""
    last: Shown | None = None
    while (one := next(sitting.left(), None)) is not None:
        shown.print()
        shown.print(Text(f"[pass {one.turn + 1}, {one.number} of {one.total}]  {visible(one.question, LIMIT)}", style="bold"))
        for text in one.text.splitlines() or [""]:
            shown.print(Text(f"  {visible(text, LIMIT)}"), soft_wrap=True)
        said: list[float] = []
        while len(said) < len(NOTIONS):
            key = _asked(shown, list(NOTIONS)[len(said)])
            if key == "q":
                return
            if key == "u":
                break
            said.append(KEYS[key])
        if len(said) == len(NOTIONS):
            sitting.label(one, *said)
            last = one
        elif not said and last is not None:
            sitting.undo(last)
            last = None


def _asked(shown: Console, notion: str) -> str:
    """A key of the reader's; the end of the input stops."""
    while True:
        try:
            shown.print(Text(f"  {notion}? "), end="")
            key = input().strip().lower()[:1]
        except (EOFError, KeyboardInterrupt):
            return "q"
        if key in {*KEYS, "u", "q"}:
            return key
        shown.print(Text("  y, n, ?, u or q."))
