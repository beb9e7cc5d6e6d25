"""Behaviours as the front door takes them: by name, from a file, a list, a data frame, or a data set on the hub."""

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus import behaviours
from locus.behaviours import jsonl
from locus.behaviours.items import FILED, TRUTH, Dataset, Item, about_truth
from locus.behaviours.readers import files, hub
from locus.behaviours.readers.mapping import check_sides
from locus.behaviours.readers.reader import Rows as FiledRows
from locus.boundary import outputs
from locus.door.shaped import read_in_memory
from locus.errors import UserError
from locus.registry import MEMORY

if TYPE_CHECKING:
    import pandas

    from locus.door.preview import Preview
    from locus.models.model import Model

Rows = Iterable[Mapping[str, Any]]
SHOWN = 20
RENAME = "Rename them, or say in `fields` what is called otherwise: fields={'wanted': 'YOURS'}."


@dataclass(frozen=True)
class Behaviour:
    """Questions with contrasting answers.

    Attributes:
        dataset: the questions, with their hash.
        source: what opens them again by name; `memory:NAME` where nothing does.
    """

    dataset: Dataset
    source: str

    @property
    def items(self) -> tuple[Item, ...]:
        """The questions, each with `question`, `wanted` and `unwanted` answers, `best`, `id` and `group`."""
        return self.dataset.items

    @property
    def sha256(self) -> str:
        """The hash that names exactly these questions."""
        return self.dataset.sha256

    def __len__(self) -> int:
        return len(self.dataset.items)

    def __repr__(self) -> str:
        return f"<behaviour {self.dataset.name}: {len(self)} questions, {self.sha256[:12]}>"

    def preview(
        self, model: "Model | str | None" = None, *, items: int = 3, prompt: str = "auto", revision: str | None = None
    ) -> "Preview":
        """Some questions as a model will see them, token by token; no weights are loaded.

        Args:
            model: by name, or open; the default model where it is left out.
            items: how many questions, from the first to the last at even distances.
            prompt: the format, as of an audit: auto, chat, qa, primer or bare.
            revision: of a hub model.

        Raises:
            UserError: if the tokenizer cannot be had, or has no such format.
        """
        from locus.door.preview import preview

        return preview(self.dataset, model, items, prompt, revision)

    def save(self, path: str | Path) -> Path:
        """Write as JSON lines, which `--data` and `locus.behaviour` read back to the same hash.

        Raises:
            UserError: if it cannot be written.
        """
        plain = {} if set(TRUTH) <= set(self.dataset.notions) else {old: new for new, old in FILED.items()}
        known = [item.to_dict() | ({"spans": dict(item.spans)} if item.spans else {}) for item in self.items]
        rows = [{plain.get(name, name): value for name, value in item.items()} for item in known]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        outputs.write_text(Path(path), "\n".join(lines) + "\n", "path")
        return Path(path)

    def export(self, to: str | Path) -> list[str]:
        """Write as a data set for others' tools: the questions as JSON lines, and their Croissant metadata.

        Args:
            to: a new or empty folder.

        Returns:
            Names of the files written.

        Raises:
            UserError: if the folder is neither.
        """
        from locus.behaviours.croissant import files

        folder = Path(to)
        outputs.empty_folder(folder)
        made = files(self.dataset)
        for name, text in made.items():
            outputs.write_text(folder / name, text, "--to")
        return list(made)


def behaviour(
    source: "str | Path | Rows | pandas.DataFrame | Behaviour" = "misconceptions",
    *,
    fields: Mapping[str, str] | None = None,
    name: str = "questions",
    split: str = "train",
    revision: str | None = None,
    reader: str | None = None,
    form: bool = False,
) -> Behaviour:
    """Questions with wanted and unwanted answers, from wherever they are.

    Args:
        source: a name (`misconceptions`, `truthfulqa`, `task:ioi` ...), the path of a file, a list of dictionaries, a pandas
            DataFrame, or with `fields` the id of a data set on the hub. A row has `question`, `wanted` and `unwanted` (lists of
            texts, or one text), and if wanted `best`, `id`, `group`, `category`, `source`; or it has the shape of a reader.
        fields: our field -> the column or key that holds it, for those that are called otherwise: `{"wanted": "Right"}`. Of
            what it does not name, `question`, `wanted` and `unwanted` are looked for under these names, and nothing else is read.
        name: what to call a list or a frame.
        split: of a hub data set.
        revision: of a hub data set: a commit, all 40 digits, since branches and tags move.
        form: the wanted side is a form (a language, a tone), which shows without the question: what a rule that never reads it
            reaches is said, and is no reason against a verdict.
        reader: that reads the rows (`bbq`, `preferences` ...; `axbench#3` for a part), where their shape is that of several.

    Returns:
        The questions; `.save(FILE.jsonl)` writes them for the command line.

    Raises:
        UserError: naming every row that is wrong, cells that are missing included.

    Example:
        >>> import locus
        >>> rows = [{"question": f"{n} + 1 =", "wanted": [str(n + 1)], "unwanted": [str(n)]} for n in range(9)]
        >>> locus.behaviour(rows, name="sums")
        <behaviour memory:sums: 9 questions, ...>
    """
    made = source if isinstance(source, Behaviour) else _made(source, fields, name, split, revision, reader)
    return replace(made, dataset=replace(made.dataset, form=True)) if form else made


def _made(
    source: "str | Path | Rows | pandas.DataFrame",
    fields: Mapping[str, str] | None,
    name: str,
    split: str,
    revision: str | None,
    reader: str | None,
) -> Behaviour:
    """Questions as `behaviour` takes them."""
    if reader is not None and fields is not None:
        raise UserError("either a reader or fields", "both", "Leave out one of them.")
    check_sides(fields or {})
    if isinstance(source, str | Path) and fields is None:
        called = f"{reader}:{source}" if reader else str(source)
        return Behaviour(behaviours.load(called), called)
    rows: list[tuple[int, Any]]
    origin = ""
    if isinstance(source, str | Path):
        held = _rows(str(source), split, revision)
        rows, unit = list(held.numbered), held.unit
        origin = name = f"{source}@{revision}" if revision else str(source)
    elif fields is None and (items := read_in_memory(source, reader, name)):
        return Behaviour(Dataset(f"{MEMORY}{name}", items, "", ""), f"{MEMORY}{name}")
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        rows, unit, fields = _frame(source, fields), "row", None
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        rows, unit = list(enumerate(source)), "row"
    else:
        raise UserError("a name, a path, a list of dictionaries or a DataFrame", type(source).__name__, "Give one of these.")
    if lacking := [
        theirs for theirs in (fields or {}).values() if not any(theirs in row for _, row in rows if isinstance(row, Mapping))
    ]:
        there = ", ".join(dict.fromkeys(str(key) for _, row in rows if isinstance(row, Mapping) for key in row))
        raise UserError("`fields` that names what is there", f"{', '.join(lacking)}; a {unit} has {there:.200}", RENAME)
    renamed = [(number, _renamed(row, fields)) for number, row in rows]
    dataset = Dataset(f"{MEMORY}{name}", tuple(jsonl.read_rows(renamed, unit, name)), "", origin)
    return Behaviour(about_truth(dataset) if all(jsonl.says_truth(row) for _, row in renamed) else dataset, f"{MEMORY}{name}")


def taken(source: Any) -> tuple[str | None, Dataset | None]:
    """A behaviour as settings name it, and the questions where they are open."""
    if source is None or isinstance(source, str):
        return source, None
    if isinstance(source, Path):
        return str(source), None
    made = behaviour(source)
    return made.source, made.dataset


def _renamed(row: Any, fields: Mapping[str, str] | None) -> Any:
    """A row under our names; one text stands for a list of one."""
    if not isinstance(row, Mapping):
        return row
    if fields is not None:
        row = {ours: row[theirs] for ours, theirs in _completed(fields, row).items() if theirs in row}
    return {
        name: [value] if name in ("wanted", "unwanted", "true", "false") and isinstance(value, str) else _plain(value)
        for name, value in row.items()
    }


def _completed(fields: Mapping[str, str], there: Container[str]) -> dict[str, str]:
    """`fields`, and those of the three that every question has that it does not name, where they are under their own names."""
    named = [(name,) if name not in FILED else (name, FILED[name]) for name in ("question", *FILED)]
    own = [one for names in named if not fields.keys() & set(names) for one in names if one in there]
    return {**{one: one for one in own if one not in fields.values()}, **fields}


def _rows(source: str, split: str, revision: str | None) -> FiledRows:
    """The rows of a file, or of a data set on the hub at a pinned commit; no code of its own is run.

    Raises:
        UserError: if they cannot be had.
    """
    there = source if Path(source).suffix.lower() in files.FORMATS else str(hub.fetched(source, revision or "", split))
    return files.read(there, "rows with the fields that are named")


def _frame(frame: Any, fields: Mapping[str, str] | None) -> list[tuple[int, Any]]:
    """The rows of a data frame by their place, counted from 0.

    Raises:
        UserError: naming columns that are not there, and all rows with a missing cell among those that are needed.
    """
    known = {str(column): str(column) for column in frame.columns if column in (*jsonl.FIELDS, *FILED)}
    wanted = known if fields is None else _completed(fields, frame.columns)
    lacking = [theirs for theirs in wanted.values() if theirs not in frame.columns]
    unsaid = [ours for ours in ("question", *FILED) if not wanted.keys() & {ours, FILED.get(ours, ours)}]
    if lacking or unsaid:
        there = ", ".join(map(str, frame.columns))
        raise UserError(
            "a DataFrame with the columns question, wanted and unwanted, or `fields` that says what they are called",
            f"none called {', '.join(lacking or unsaid)}; it has {there}",
            RENAME,
        )
    missing = [
        f"{theirs} of row {place}"
        for theirs in wanted.values()
        for place, one in enumerate(frame[theirs])
        if one is None or (isinstance(one, float) and one != one) or type(one).__name__ in ("NAType", "NaTType")
    ]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        raise UserError(
            "a DataFrame without missing cells", f"none in {shown}", "Fill these cells, or drop the rows: frame.dropna()."
        )
    held = {ours: [_plain(one) for one in frame[theirs]] for ours, theirs in wanted.items()}
    return [(place, {ours: column[place] for ours, column in held.items()}) for place in range(len(frame))]


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: arrays and tuples as lists, numpy's scalars as Python's."""
    if hasattr(cell, "tolist"):
        return cell.tolist()
    return list(cell) if isinstance(cell, tuple | set) else cell
