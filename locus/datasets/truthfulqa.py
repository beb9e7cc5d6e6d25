"""TruthfulQA: from a CSV or mc_task.json by path, or from the hub; v0 and the 2025 revision, never mixed.

The version is read off the content: the 2025 revision has a column `Best Incorrect Answer`, v0 has 817 questions and
answers that give 10,891 true x false pairs (the version the paper's counts fit), the multiple-choice file 5,882 choices.
The CSV's canary travels with the file and is never written anywhere by us.

Licence: Apache-2.0. Source: Lin et al. 2021 (arXiv 2109.07958); github.com/sylinrl/TruthfulQA.
"""

import csv
import io
import json
from pathlib import Path

from locus.datasets.items import Dataset, Item, normalise
from locus.errors import UserError

COLUMNS = ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
HUB_ID = "truthfulqa/truthful_qa"


def load(path: str | None = None) -> Dataset:
    """Read the CSV or mc_task.json at a path; with no path, the hub's multiple-choice set (v0).

    Raises:
        UserError: if the file is missing, has other columns, or the hub cannot be reached.
    """
    if path is None:
        return _from_hub()
    file = Path(path)
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("TruthfulQA as CSV or mc_task.json", f"{path!r} ({error})", "Check the path.") from error
    return from_json(content, path) if content.lstrip().startswith(("[", "{")) else from_csv(content, path)


def from_csv(content: str, origin: str) -> Dataset:
    """Items from the generation CSV; answers are separated by semicolons."""
    reader = csv.DictReader(io.StringIO(content))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            "a CSV with TruthfulQA's columns",
            f"{Path(origin).name} without {', '.join(missing)}",
            "For questions of your own write JSON lines: question, true, false.",
        )
    revised = "Best Incorrect Answer" in (reader.fieldnames or [])
    items = []
    for number, row in enumerate(reader):
        best = row["Best Answer"].strip()
        true = _listed(row["Correct Answers"])
        # A few best answers differ from their listed twin in a full stop or a capital: the listed one is taken.
        listed = {normalise(answer): answer for answer in true}
        if normalise(best) not in listed:
            true = (*true, best)
            listed[normalise(best)] = best
        items.append(
            Item(
                id=f"tqa-{number:03d}",
                question=row["Question"].strip(),
                true=true,
                false=_listed(row["Incorrect Answers"]),
                best=listed[normalise(best)],
                group=normalise(row["Question"]),
                category=(row.get("Category") or "").strip(),
                source=(row.get("Source") or "").strip(),
            )
        )
    version = "2025" if revised else _version(items)
    return Dataset(f"truthfulqa:{version}", tuple(items), "Apache-2.0", origin)


def from_json(content: str, origin: str) -> Dataset:
    """Items from mc_task.json: labelled choices; the MC1 choice labelled 1 is the best answer."""
    try:
        rows = json.loads(content)
        parsed = [(row["question"], row["mc1_targets"], row["mc2_targets"]) for row in rows]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(
            "mc_task.json: a list of objects with question, mc1_targets and mc2_targets", f"{origin!r} ({error!r})", "Check it."
        ) from error
    items = [_choice_item(number, *row) for number, row in enumerate(parsed)]
    return Dataset(f"truthfulqa:mc-{_version(items)}", tuple(items), "Apache-2.0", origin)


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
    """Answers of a cell in order, as listed: three questions list one twice, and the known counts include them."""
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _version(items: list[Item]) -> str:
    return "v0" if len(items) == 817 else f"other-{len(items)}"
