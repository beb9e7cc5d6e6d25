"""mapping: a TOML file that says what is called otherwise in a file beside it, or in a data set on the hub.

`hub`, `revision` and `split` (or `file`) say where the rows are, `[fields]` which of theirs is which of ours: `question`,
`wanted` and `unwanted`, or `choices` and `label` (the place or text of the right one); and if wanted `best`, `group`, `category`
and `id`. A cell may be a text, a list of texts or a chat list. `form = true` says that the wanted side is a form (a language, a
tone), which shows without the question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from locus.behaviours.items import FILED, Item, normalise
from locus.behaviours.readers import files, hub
from locus.behaviours.readers.chats import answered, asked, turns
from locus.behaviours.readers.choices import chosen
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Row, Rows
from locus.errors import UserError

GOOD = "wanted true chosen correct good best preferred winning_output sentence_good answer_matching_behavior".split()
BAD = "unwanted false rejected incorrect wrong bad losing_output sentence_bad answer_not_matching_behavior".split()
SIDES, CHOICES, MORE = ("question", "wanted", "unwanted"), ("question", "choices", "label"), ("best", "group", "category", "id")
PLACES = ("hub", "revision", "split", "config", "file")
TURN = "To turn a behaviour round, map the sides as they are named and write exchange: before the name."


def check_sides(fields: Mapping[str, str]) -> None:
    """Refuse a mapping that takes for wanted what is named as unwanted, or the other way round, or one field for both.

    Args:
        fields: our field -> theirs.

    Raises:
        UserError: saying how a behaviour is turned round.
    """
    named = {{old: new for new, old in FILED.items()}.get(ours, ours): theirs for ours, theirs in fields.items()}
    for ours, against in (("wanted", BAD), ("unwanted", GOOD)):
        if named.get(ours, "").casefold() in against:
            received = f"{ours} = {named[ours]!r}, which by its name is the other side"
            raise UserError("a mapping that takes each side for what it is", received, TURN)
    if "wanted" in named and named["wanted"] == named.get("unwanted"):
        raise UserError("two fields for the two sides", f"{named['wanted']!r} for both", "Name another for one of them.")


def _recognises(rows: Sequence[Row]) -> bool:
    return len(rows) == 1 and isinstance(rows[0].get("fields"), Mapping) and ("hub" in rows[0] or "file" in rows[0])


def _mapped(table: Fields) -> Mapping[str, str]:
    """The mapping of a file, checked.

    Raises:
        ValueError: if a field of ours is unknown or lacks.
    """
    given = table.part("fields")
    fields = {{old: new for new, old in FILED.items()}.get(name, name): given.text(name) for name in given.row}
    needed = CHOICES if "choices" in fields else SIDES
    if unknown := [name for name in fields if name not in (*needed, *MORE)]:
        raise ValueError(f"unknown field {unknown[0]!r} in [fields]; there are {', '.join((*needed, *MORE))}")
    if lacking := [name for name in needed if name not in fields]:
        raise ValueError(f"[fields] without {', '.join(lacking)}")
    if unknown := [name for name in table.row if name not in (*PLACES, "form", "fields")]:
        raise ValueError(f"unknown name {unknown[0]!r}; there are {', '.join(PLACES)}, form and [fields]")
    table.flag("form")
    return fields


def _rows(table: Fields, rows: Rows) -> Rows:
    """The rows that are mapped: of a file beside the TOML, or of the hub.

    Raises:
        UserError: if they cannot be had.
    """
    named = {name: table.maybe(name) for name in PLACES}
    if named["hub"]:
        place = hub.fetched(named["hub"], named["revision"], named["split"], named["file"], named["config"])
        return files.read(str(place), rows.expected)
    file = PurePosixPath(named["file"])
    if not named["file"] or file.is_absolute() or ".." in file.parts or file.suffix == ".toml" or rows.folder is None:
        raise UserError("a file of rows that lies beside the TOML", repr(named["file"]), "Put it there, and name it.")
    return files.read(str(rows.folder / file), rows.expected)


def _answers(fields: Fields, name: str) -> tuple[str, ...]:
    """One or more answers; of a chat list its last turn."""
    value = fields.row.get(name)
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return (answered(fields, name)[1],)
    return fields.texts(name)


def _unfold(rows: Rows) -> Rows:
    """The rows that are mapped, under our names."""
    ((_, (table, mapped)),) = rows.each(lambda table: (table, _mapped(table)))
    check_sides(mapped)
    there = _rows(table, rows)
    names = dict.fromkeys(str(name) for row in there.first for name in row)
    if lacking := [theirs for theirs in mapped.values() if theirs not in names]:
        received = f"{', '.join(lacking)}; a {there.unit} has {', '.join(names):.200}"
        raise UserError("[fields] that name what is there", received, "Name fields of the rows.")
    renamed = [(n, {ours: row.get(theirs) for ours, theirs in mapped.items()}) for n, row in there.numbered]
    return replace(there, name=rows.name, numbered=renamed, form=table.flag("form"))


def _item(row: Fields) -> Item:
    question = asked([one for one in turns(row, "question") if one.role != "assistant"])
    id, category = row.maybe("id") or f"q{row.number}", row.maybe("category")
    if "choices" in row.row:
        choices, label = row.texts("choices"), row.label("label")
        right = choices.index(label) if label in choices else row.whole("label")
        item = chosen(id, question, choices, {right}, category)
    else:
        wanted, unwanted = (_answers(row, side) for side in SIDES[1:])
        item = Item(id, question, wanted, unwanted, row.maybe("best") or wanted[0], normalise(question), category)
    return replace(item, group=row.maybe("group") or item.group)


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


EXPECTED = "TOML with hub, revision and split (or file), and [fields] with question, wanted and unwanted, or choices and label"
READER = Reader("mapping", EXPECTED, _recognises, _read, unfold=_unfold)
