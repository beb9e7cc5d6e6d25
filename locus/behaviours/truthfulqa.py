"""TruthfulQA: from a CSV or mc_task.json by path, or from the hub; v0 and the 2025 revision, never mixed.

The version is read off the content: the 2025 revision has a column `Best Incorrect Answer` and 790 questions, v0 has 817 and
answers that give 10,891 true x false pairs (the version the paper's counts fit), the multiple-choice file 5,882 choices. What has
other counts is the user's own, and bears the file's name.
The CSV's canary travels with the file and is never written anywhere by us.

Licence: Apache-2.0. Source: Lin et al. 2021 (arXiv 2109.07958); github.com/sylinrl/TruthfulQA.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locus.behaviours import lines
from locus.behaviours.items import Dataset, Item, about_truth, contradicted, normalise, repeats
from locus.behaviours.readers import files, hub
from locus.behaviours.readers.reader import Fields
from locus.boundary import incoming
from locus.errors import UserError

COLUMNS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
CHOICES = ("question", "mc1_targets", "mc2_targets")
PUBLISHED = ((817, 10_891), (790, 12_087))  # questions and true x false pairs of v0 and of 2025, repeated answers included
PUBLISHED_CHOICES = (817, 5882)  # questions and choices of v0's mc_task.json
HUB_ID = "truthfulqa/truthful_qa"
HUB_COMMIT = "741b8276f2d1982aa3d5b832d3ee81ed3b896490"


def load_truthfulqa(path: str | None = None) -> Dataset:
    """Read the CSV or mc_task.json at a path; with no path, the hub's multiple-choice set (v0).

    Raises:
        UserError: if the file is missing, has other columns, or the hub cannot be reached.
    """
    if path is None:
        return _from_hub()
    content = lines.text(Path(path), "TruthfulQA as CSV or mc_task.json")
    return from_json(content, path) if content.lstrip().startswith(("[", "{")) else from_csv(content, path)


def from_csv(content: str, origin: str) -> Dataset:
    """Items from the generation CSV; answers are separated by semicolons.

    Raises:
        UserError: if it is not a table with TruthfulQA's columns.
    """
    rows = lines.read_table(
        content, Path(origin).name, COLUMNS, "For questions of your own write JSON lines: question, true, false."
    )
    revised = bool(rows) and "Best Incorrect Answer" in rows[0][1]
    items = []
    for number, (_, row) in enumerate(rows):
        best = row["Best Answer"].strip()
        true = _listed(row["Correct Answers"])
        # A few best answers differ from their listed twin in a full stop or a capital: the listed one is taken.
        listed = {_alike(answer): answer for answer in true} | {answer: answer for answer in true}
        best = listed.get(best, listed.get(_alike(best), best))
        items.append(
            Item(
                id=f"tqa-{number:03d}",
                question=row["Question"].strip(),
                wanted=true if best in true else (*true, best),
                unwanted=_listed(row["Incorrect Answers"]),
                best=best,
                group=normalise(row["Question"]),
                category=row.get("Category", "").strip(),
                source=row.get("Source", "").strip(),
            )
        )
    counts = (len(items), sum(item.n_pairs for item in items))
    version = {(False, PUBLISHED[0]): "v0", (True, PUBLISHED[1]): "2025"}.get((revised, counts))
    return _named(version, items, origin, version is not None)


def from_json(content: str, origin: str) -> Dataset:
    """Items from mc_task.json: labelled choices; the MC1 choice labelled 1 is the best answer.

    Raises:
        UserError: if it is none, naming what is wrong with which questions.
    """
    expected = "mc_task.json: a list of objects with question, mc1_targets and mc2_targets, answers labelled 0 or 1"
    try:
        rows: Any = incoming.parse_json(content)
    except ValueError as error:
        raise UserError(expected, f"{origin!r} ({error})", "Check it.") from error
    wrong = [] if isinstance(rows, list) else ["not a list"]
    wrong += [f"question {number}" for number, row in enumerate(rows, 1) if not _choices(row)] if not wrong else []
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(expected, f"{origin!r} ({', '.join(wrong[:3])}{more})", "Check it.")
    wrong = [f"question {number}, {why}" for number, row in enumerate(rows, 1) if (why := _contradiction(row))]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError("choices of which one is the best answer", f"{origin!r} ({'; '.join(wrong[:3])}{more})", "Mend it.")
    items = [_choice_item(number, *(row[name] for name in CHOICES)) for number, row in enumerate(rows)]
    return _named(_mc_version(items), items, origin)


def _contradiction(row: Mapping[str, Any]) -> str:
    """What a question's two lists of choices say against each other or themselves; empty where nothing."""
    mc1, mc2 = ({answer.strip(): label for answer, label in row[name].items()} for name in CHOICES[1:])
    best = [answer for answer, label in mc1.items() if label == 1]
    if len(mc1) < len(row[CHOICES[1]]) or len(mc2) < len(row[CHOICES[2]]):
        return "with an answer twice, but for blanks"
    if len(best) != 1:
        return f"with {len(best)} right answers in mc1_targets"
    if other := [answer for answer, label in mc1.items() if mc2.get(answer, label) != label]:
        return f"with {other[0]!r} right in one list and wrong in the other"
    return "" if best[0] in mc2 else f"with a best answer {best[0]!r} that is not in mc2_targets"


def _named(version: str | None, items: list[Item], origin: str, published: bool = False) -> Dataset:
    """The data set under its published name where its counts are those that were published; else under the file's."""
    seen: dict[tuple[str, str], bool] = {}
    wrong = [] if version else [problem for item in items if not repeats(item) for problem in contradicted(item, seen)]
    if wrong:
        raise UserError("questions with one label for an answer", f"{origin!r} ({wrong[0]})", "Take one of them out.")
    if version is None:
        return about_truth(Dataset(f"custom:{Path(origin).name}", tuple(items), "", origin, published))
    return about_truth(Dataset(f"truthfulqa:{version}", tuple(items), "Apache-2.0", origin, published))


def _choices(row: Any) -> bool:
    """Whether something is a question with its labelled choices."""
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or lines.has_nul(row):
        return False
    choices = [row.get(name) for name in CHOICES[1:]]
    return all(
        isinstance(labels, dict) and all(type(label) is int and label in (0, 1) for label in labels.values())
        for labels in choices
    )


def _choice_item(number: int, question: str, mc1: dict[str, int], mc2: dict[str, int]) -> Item:
    true = tuple(answer for answer, label in mc2.items() if label == 1)
    best = next((answer for answer, label in mc1.items() if label == 1 and answer in true), true[0] if true else "")
    false = tuple(answer for answer, label in mc2.items() if label == 0)
    return Item(f"tqa-{number:03d}", question.strip(), true, false, best, normalise(question))


def _from_hub() -> Dataset:
    """The multiple-choice set of the hub, at one commit; what was fetched before needs no network."""
    try:
        place = hub.fetched(HUB_ID, HUB_COMMIT, "validation", config="multiple_choice")
    except UserError as error:
        remedy = "Check the network, or give a path: --data truthfulqa:PATH/TruthfulQA.csv."
        raise UserError(error.expected, error.received, remedy) from error
    rows = files.read(str(place), f"{', '.join(CHOICES)} of {HUB_ID}").each(_labelled)
    items = [_choice_item(number, *row) for number, (_, row) in enumerate(rows)]
    return _named(_mc_version(items), items, HUB_ID)


def _labelled(row: Fields) -> tuple[str, dict[str, int], dict[str, int]]:
    """A question of the hub with its labelled choices, which are two lists there."""
    first, second = (dict(zip(part.texts("choices"), part.wholes("labels"), strict=True)) for part in map(row.part, CHOICES[1:]))
    return row.text("question"), first, second


def _listed(cell: str) -> tuple[str, ...]:
    """Answers of a cell in order, as listed: five questions list one twice, two of them on both sides, and the known counts
    include them."""
    return tuple(answer.strip() for answer in cell.split(";") if answer.strip())


def _alike(answer: str) -> str:
    """An answer without capitals and final full stop."""
    return answer.casefold().rstrip(".").strip()


def _mc_version(items: list[Item]) -> str | None:
    """The name of v0's multiple choice where it is that."""
    return "mc-v0" if (len(items), sum(len(item.answers) for item in items)) == PUBLISHED_CHOICES else None


def open_behaviour(name: str) -> Dataset:
    """TruthfulQA by the name `truthfulqa` (the hub) or `truthfulqa:FILE`."""
    _, _, path = name.partition(":")
    return load_truthfulqa(path or None)
