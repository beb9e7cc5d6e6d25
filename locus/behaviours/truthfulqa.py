"""TruthfulQA: from a CSV or mc_task.json by path, or from the hub; v0 and the 2025 revision, never mixed.

The version is read off the content: the 2025 revision has a column `Best Incorrect Answer`, v0 has 817 questions and
answers that give 10,891 true x false pairs (the version the paper's counts fit), the multiple-choice file 5,882 choices.
The CSV's canary travels with the file and is never written anywhere by us.

Licence: Apache-2.0. Source: Lin et al. 2021 (arXiv 2109.07958); github.com/sylinrl/TruthfulQA.
"""

from pathlib import Path
from typing import Any

from locus.behaviours import lines
from locus.behaviours.items import Dataset, Item, normalise
from locus.boundary import incoming
from locus.errors import UserError

COLUMNS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
CHOICES = ("question", "mc1_targets", "mc2_targets")
PUBLISHED = ((817, 10_891), (790, 12_087))  # questions and true x false pairs of v0 and of 2025, repeated answers included
HUB_ID = "truthfulqa/truthful_qa"


def load(path: str | None = None) -> Dataset:
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
    rows = lines.table(content, Path(origin).name, COLUMNS, "For questions of your own write JSON lines: question, true, false.")
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
    version = "2025" if revised else _version(items)
    published = (len(items), sum(item.n_pairs for item in items)) in PUBLISHED
    return Dataset(f"truthfulqa:{version}", tuple(items), "Apache-2.0", origin, published)


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
    items = [_choice_item(number, *(row[name] for name in CHOICES)) for number, row in enumerate(rows)]
    return Dataset(f"truthfulqa:mc-{_version(items)}", tuple(items), "Apache-2.0", origin)


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
    try:
        from datasets import load_dataset

        rows = load_dataset(HUB_ID, "multiple_choice", split="validation")
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise UserError(
            f"the data set {HUB_ID} from the hub",
            f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            "Install locus-audit[hub] and check the network, or give a path: --data truthfulqa:PATH/TruthfulQA.csv.",
        ) from error
    items = []
    for number, row in enumerate(rows):
        targets = [dict(zip(row[name]["choices"], row[name]["labels"], strict=True)) for name in ("mc1_targets", "mc2_targets")]
        items.append(_choice_item(number, row["question"], *targets))
    return Dataset(f"truthfulqa:mc-{_version(items)}", tuple(items), "Apache-2.0", HUB_ID)


def _listed(cell: str) -> tuple[str, ...]:
    """Answers of a cell in order, as listed: five questions list one twice, two of them on both sides, and the known counts
    include them."""
    return tuple(answer.strip() for answer in cell.split(";") if answer.strip())


def _alike(answer: str) -> str:
    """An answer without capitals and final full stop."""
    return answer.casefold().rstrip(".").strip()


def _version(items: list[Item]) -> str:
    return "v0" if len(items) == 817 else f"other-{len(items)}"


def open_behaviour(name: str) -> Dataset:
    """TruthfulQA by the name `truthfulqa` (the hub) or `truthfulqa:FILE`."""
    _, _, path = name.partition(":")
    return load(path or None)
