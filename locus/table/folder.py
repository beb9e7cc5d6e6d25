"""A table's folder: table.json, and under rows/ what each audit left, which is verified whenever it is read.

A row holds what a run left but for its edits, and its verdict is derived anew from its scores; or its receipt and verdict alone,
which are held against what was signed. Edits are made again by the command that its page tells. What is added is taken for
hostile until it has been verified, copied file by file, and verified again as copied.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from locus import atomic
from locus.boundary import outputs
from locus.errors import UserError, VerificationError
from locus.records.table import MOST_ROWS, ROW, TABLE_SCHEMA, RowRecord, TableRecord
from locus.report.results import keep, kept, verdict_of
from locus.report.verify import LEFT_BY_READERS, verify_run
from locus.table.rows import Row, rows_of

RECORD, ROWS, EDITS = "table.json", "rows", "edits/"
EXCERPT = ("receipt.json", "verdict.json")
TITLE = "Audits of localization claims"


@dataclass(frozen=True)
class Checked:
    """A table whose every row was verified.

    Attributes:
        title: of its page.
        rows: one for each claim of each audit, by name.
        partial: audits whose plan and scores are not here: their verdicts are what was signed, and were not derived anew.
    """

    title: str
    rows: tuple[Row, ...]
    partial: tuple[str, ...]


def read(table: Path) -> TableRecord:
    """The table.json of a folder, which a stranger may have written; of a folder without one, an empty table.

    Raises:
        UserError: if it is none that is whole.
    """
    if not (table / RECORD).exists():
        return TableRecord(schema_=TABLE_SCHEMA, title=TITLE, rows={})
    return kept(TableRecord, table / RECORD, TABLE_SCHEMA, f"a table's {RECORD} that is whole")


def check(table: Path) -> Checked:
    """Verify every row of a table.

    Raises:
        UserError: if it is no table.
        VerificationError: naming the first row that does not hold, is not listed, or is listed and not there.
    """
    if not (table / RECORD).exists():
        raise UserError(f"a table's folder, with its {RECORD}", str(table), "Make one: locus table add RUN --table FOLDER.")
    record, rows, partial = read(table), [], []
    there = {path.name for path in (table / ROWS).iterdir()} if (table / ROWS).is_dir() else set()
    if strange := sorted(there ^ record.rows.keys()):
        raise VerificationError(f"row {strange[0]!r:.90} is {'not listed' if strange[0] in there else 'listed and not there'}")
    plans: dict[str, str] = {}
    for name, listed in record.rows.items():
        verified = _verified(table / ROWS / name, name, listed)
        if (other := plans.setdefault(verified[0].verdict.plan_sha256, name)) != name:
            raise VerificationError(f"rows {other} and {name} are one audit, {listed.receipt}")
        rows += verified
        partial += [] if verified[0].whole else [name]
    return Checked(record.title, tuple(rows), tuple(partial))


def _verified(folder: Path, name: str, listed: RowRecord) -> list[Row]:
    """A row's claims, once all of it was seen to hold."""
    try:
        held = verify_run(folder, expected=listed.receipt)
        if held.signed_by is None:
            raise VerificationError("its receipt is unsigned: anybody may have written it")
        return rows_of(name, listed, verdict_of(folder), held.signed_by, held.kind == "run")
    except (UserError, VerificationError) as error:
        raise VerificationError(f"row {name}: {error}") from error


def add(table: Path, run: Path, name: str, said: dict[str, str], scores: bool = True) -> list[str]:
    """Add a run to a table, as a pull request would.

    Args:
        table: its folder; one is begun where there is none.
        run: a finished run folder, or what is left of one.
        name: of the row, by default the run's folder's.
        said: what is said of it: source, url, note.
        scores: whether plan and scores are kept, so that anybody can derive the verdict anew.

    Returns:
        The files that were written, by their paths in the table.

    Raises:
        UserError: if the row cannot be called so, is there already, or is unsigned.
        VerificationError: if the run does not hold.
    """
    record = read(table)
    outputs.check_folder(table, "--table")
    name = name or re.sub(r"[^a-z0-9._-]+", "-", run.resolve().name.lower()).strip("-._")
    if not re.fullmatch(ROW, name):
        raise UserError("a row name of small letters, digits, dot, dash and underscore", repr(name[:90]), "Give one by --name.")
    if name in record.rows:
        raise UserError("a row that is not there yet", f"{name!r} in {table}", "Give another name by --name.")
    if (left := table / ROWS / name).exists():
        remedy = "Remove it, if it is left of a command that was stopped, or give another name by --name."
        raise UserError("no folder where the row is to be", f"{left}, which {RECORD} does not list", remedy)
    if len(record.rows) >= MOST_ROWS:
        raise UserError(f"a table of at most {MOST_ROWS:,} audits", str(len(record.rows)), "Begin another.")
    held = verify_run(run)
    if held.signed_by is None:
        raise UserError("a run whose receipt is signed", f"{run}, unsigned", "Audit without --no-sign.")
    plan = verdict_of(run).plan_sha256  # which going on with a finished run leaves, while its receipt is written anew
    if same := [other for other in record.rows if verdict_of(table / ROWS / other).plan_sha256 == plan]:
        raise UserError("an audit that is not in the table yet", f"{held.id}, which is row {same[0]!r}", "Add another.")
    listed = _listed(held.id, said)
    names = _kept(run) if scores and held.kind == "run" else list(EXCERPT)
    _copy(run, table / ROWS / name, names, name, listed)
    rows = dict(sorted({**record.rows, name: listed}.items()))
    keep(TableRecord(schema_=TABLE_SCHEMA, title=record.title, rows=rows), table / RECORD)
    return [RECORD, *(f"{ROWS}/{name}/{one}" for one in names)]


def _listed(receipt: str, said: dict[str, str]) -> RowRecord:
    try:
        return RowRecord.parse({"receipt": receipt, **{key: value for key, value in said.items() if value}})
    except ValueError as error:
        raise UserError(
            "--source and --note of at most 400 characters, and --url with https://", str(error), "Mend it."
        ) from error


def _kept(run: Path) -> list[str]:
    """The files of a run that was verified, but for its edits."""
    names = (path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_file())
    return [name for name in names if not name.startswith(EDITS) and name not in LEFT_BY_READERS]


def _copy(run: Path, to: Path, names: list[str], name: str, listed: RowRecord) -> None:
    """Copy a run's files, and keep them only if the copy holds."""
    try:
        for one in names:
            source = run / one
            if not source.is_file() or source.is_symlink():
                raise UserError(f"a run folder with its {one}", str(run), "Give the whole folder, or --no-scores.")
            (to / one).parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(to / one, source.read_bytes())
        _verified(to, name, listed)
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise
