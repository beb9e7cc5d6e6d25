"""The record of a run: SQLite, append-only migrations, a trial's `done` written last, in one transaction with its scores.

A run killed at any moment loses at most the bank it was working on, and a resumed run does what the plan names and the store
lacks. Readers may look while it runs (write-ahead log).
"""

import json
import sqlite3
import time
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locus.boundary.incoming import parse_json, regular
from locus.errors import UserError
from locus.machine.heap import growing
from locus.records.plan import TrialRecord
from locus.records.result import Result, TrialResult
from locus.records.tables import MIGRATIONS, check_files, defend, known_version, layout

Floats = npt.NDArray[np.float64]

KINDS_OF = {"TEXT": ("text",), "REAL": ("real",), "INTEGER": ("integer",), "NUMERIC": ("integer", "real")}
HUGE = 1.7976931348623157e308  # the largest double
TEXT_BYTES = 1 << 22
SECONDS = 600.0  # the longest that one database is read
COUNTS = ("tokens", "layers", "tails", "pairs", "scored", "reused", "macs", "spared", "bare")


class Store:
    """A run's database.

    Args:
        path: the file; made if absent.

    Raises:
        UserError: if the file is not a store, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path):
        self.path = path
        check_files(path)
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=30)
            defend(self.db)
            with self.within(SECONDS):
                # Before anything is run on it or written to it: what it is made of decides what a statement does.
                version = known_version(self.db, path)
                self.db.execute("PRAGMA journal_mode = WAL")
                self.db.execute("PRAGMA synchronous = FULL")
                damage = str(self.db.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise UserError("a run's trials.sqlite", f"{path} ({error})", "Give another --out folder.") from error
        if damage != "ok":
            raise UserError(
                "a trials.sqlite that is whole", f"{path} ({damage})", "Restore it, or audit again into another --out."
            )
        if version == 0:
            self.migrate()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Have whatever the database does in here end after so many seconds.

        A clock beside it stops it. Python code that SQLite calls back would not do: a Ctrl-C that falls into such code is
        taken by SQLite for the code's answer, and lost.
        """
        over, ended = allocate_lock(), allocate_lock()  # a Ctrl-C that falls into threading's own waiting breaks its locks
        over.acquire()
        ended.acquire()
        try:
            start_new_thread(_stop_after, (self.db, seconds, over, ended))
            yield
        finally:
            over.release()
            ended.acquire(timeout=1.0)  # so that what comes later is not stopped

    def migrate(self) -> None:
        """Bring a file up to this version; an older one only when it is written to: a finished run's receipt is of its bytes."""
        version = int(self.db.execute("PRAGMA user_version").fetchone()[0])
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self.db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    def settle(self) -> bool:
        """Move all that was committed into the one file, whose bytes then stay until the next write.

        Returns:
            False if somebody who is reading prevents it.
        """
        return bool(self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self.db.close()

    def meta(self, key: str) -> str | None:
        """A value noted under a key."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, key: str, value: str) -> None:
        """Note a value under a key, once and for all: a second value is refused."""
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))

    def done(self) -> set[str]:
        """Ids of the trials that are finished."""
        return {row[0] for row in self.db.execute("SELECT id FROM trials WHERE state = 'done'")}

    def holds(self, trial: str) -> bool:
        """Whether a trial is finished."""
        return self.db.execute("SELECT 1 FROM trials WHERE id = ? AND state = 'done'", (trial,)).fetchone() is not None

    def commit(self, results: Iterable[Result]) -> None:
        """Write trials with all their scores, `done` last, all or nothing.

        Raises:
            UserError: if the disk is full, or another audit writes to the same folder; what was committed before is safe.
        """
        self.migrate()
        with self.transaction():
            for result in results:
                spec, fit = (json.dumps(one.to_json(), sort_keys=True) for one in (result.spec, result.fit))
                self.db.execute(
                    "INSERT INTO trials VALUES (?, ?, ?, ?, ?, 'writing', ?, ?, ?, NULL, ?)",
                    (
                        result.id,
                        result.spec.role,
                        result.spec.arm,
                        result.spec.claim,
                        spec,
                        result.seconds,
                        result.converged,
                        result.reason,
                        fit,
                    ),
                )
                self.db.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", _rows(result))
                self.db.executemany(
                    "INSERT INTO texts VALUES (?, ?, ?, ?)",
                    [(result.id, split, item, text) for split, texts in result.texts.items() for item, text in texts.items()],
                )
                self.db.executemany(
                    f"INSERT INTO costs VALUES (?, ?, {', '.join('?' * len(COUNTS))})",
                    [(result.id, work, *(counts[name] for name in COUNTS)) for work, counts in result.cost.items()],
                )
                self.db.execute("UPDATE trials SET state = 'done', finished = ? WHERE id = ?", (time.time(), result.id))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in a `with` block, or nothing.

        Raises:
            UserError: if the disk is full, or another audit writes to the same folder.
        """
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if "full" in str(error) or "I/O" in str(error):
                raise UserError(
                    "room on the disk for results",
                    f"{error} at {self.path}",
                    "Free some space and run the same command again: finished trials are kept.",
                ) from error
            raise
        except sqlite3.IntegrityError as error:
            self.db.execute("ROLLBACK")
            raise UserError(
                "one audit at a time in a run folder",
                f"a trial that another one has just written to {self.path}",
                "Let the other finish, or stop it, and run the same command again: finished trials are kept.",
            ) from error
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    @growing()
    def trials(self, planned: Iterable[TrialRecord] = ()) -> list[TrialResult]:
        """All finished trials, by id.

        Args:
            planned: trials of a plan; what was written of one as it was planned is not read again, but is the plan's.

        Raises:
            UserError: if one of them is not as a trial is written.
        """
        known = {trial.id: trial for trial in planned}
        cursor = self.db.execute("SELECT * FROM trials WHERE state = 'done' ORDER BY id")
        names = [column[0] for column in cursor.description]
        try:
            return [_trial(dict(zip(names, row, strict=True)), known) for row in cursor]
        except ValueError as error:
            received = f"{self.path}, with a trial that is none ({str(error)[:160]})"
            raise UserError("a trials.sqlite as locus writes it", received, "Audit again into another --out.") from error

    def check_values(self) -> None:
        """See that every column holds what its declaration says: SQLite itself would keep a text in a column of numbers.

        Raises:
            UserError: naming the first column that does not.
        """
        tables = [name for kind, name, *_ in layout(self.db) if kind == "table"]
        for table in sorted(tables):
            for _, column, declared, filled, *_ in self.db.execute(f'PRAGMA table_info("{table}")').fetchall():
                allowed = KINDS_OF[declared] if filled or column in ("key", "id") else (*KINDS_OF[declared], "null")
                kinds = ", ".join(f"'{kind}'" for kind in allowed)
                beyond = f'length("{column}") > {TEXT_BYTES}' if declared == "TEXT" else f'abs("{column}") > {HUGE!r}'
                wrong = f'typeof("{column}") NOT IN ({kinds}) OR {beyond}'
                if self.db.execute(f'SELECT 1 FROM "{table}" WHERE {wrong} LIMIT 1').fetchone():
                    received = f"{self.path}, whose {table}.{column} holds something else than {declared}"
                    raise UserError("a trials.sqlite as locus writes it", received, "Audit again into another --out.")

    def scores(self, trial: str, split: str, measure: str, items: list[str]) -> Floats:
        """Values of a measure for given items, NaN where unscored."""
        rows = self.db.execute(
            "SELECT item, value FROM scores WHERE trial = ? AND split = ? AND measure = ?", (trial, split, measure)
        )
        known = {item: value for item, value in rows if value is not None}
        return np.array([known.get(item, np.nan) for item in items], dtype=np.float64)

    def table(self, trials: Sequence[str], split: str, measure: str, items: Sequence[str]) -> Floats:
        """[trials, items], values of a measure, NaN where unscored."""
        at = {item: number for number, item in enumerate(dict.fromkeys(items))}
        found = np.full((len(trials), len(at)), np.nan)
        rows = self.db.execute(
            "SELECT asked.key, item, scores.value FROM json_each(?) AS asked CROSS JOIN scores ON trial = asked.value "
            "WHERE split = ? AND measure = ? AND scores.value IS NOT NULL",
            (json.dumps(trials), split, measure),
        )
        for number, item, value in rows:
            if item in at:
                found[number, at[item]] = value
        return found if len(at) == len(items) else found[:, [at[item] for item in items]]

    def counts(self) -> Iterator[tuple[str, str, tuple[int | float, ...]]]:
        """Trial, kind of work and its `COUNTS`, by trial and kind; an older file has fewer of them, or nothing."""
        if self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'costs'").fetchone():
            for trial, work, *counts in self.db.execute("SELECT * FROM costs ORDER BY trial, work"):
                yield trial, work, tuple(counts)

    def costs(self) -> dict[str, dict[str, dict[str, float]]]:
        """Trial -> kind of work -> counts; a trial of which nothing was counted is absent, and so are all in an older file."""
        counted: dict[str, dict[str, dict[str, float]]] = {}
        for trial, work, counts in self.counts():
            counted.setdefault(trial, {})[work] = dict(zip(COUNTS, counts, strict=False))
        return counted

    def texts(self, trial: str, split: str) -> dict[str, str]:
        """What a trial's model said, by item."""
        rows = self.db.execute("SELECT item, text FROM texts WHERE trial = ? AND split = ? ORDER BY item", (trial, split))
        return dict(rows)

    def unscored(self, trial: str, split: str, measure: str) -> dict[str, str]:
        """Why items have no value, by item."""
        rows = self.db.execute(
            "SELECT item, reason FROM scores WHERE trial = ? AND split = ? AND measure = ? AND value IS NULL ORDER BY item",
            (trial, split, measure),
        )
        return dict(rows)

    def measures(self, split: str) -> list[str]:
        """Names of the measures that any trial has on a split."""
        return [row[0] for row in self.db.execute("SELECT DISTINCT measure FROM scores WHERE split = ? ORDER BY 1", (split,))]

    def scored(self, trial: str) -> set[tuple[str, str]]:
        """Splits and measures that a trial has scores of."""
        return set(self.db.execute("SELECT DISTINCT split, measure FROM scores WHERE trial = ?", (trial,)))

    def dump(self) -> list[tuple[Any, ...]]:
        """Every score row in order, for comparing runs."""
        return list(self.db.execute("SELECT trial, split, measure, item, value, reason FROM scores ORDER BY 1, 2, 3, 4"))


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """A store that somebody else may have written, to read from: every value is of its column's kind.

    Raises:
        UserError: if there is none, or it is not as locus writes it.
    """
    if not regular(path):
        raise UserError("a run's trials.sqlite", f"none in {str(path.parent)!r}", "Give the --out of an audit.")
    store = Store(path)
    try:
        with store.within(SECONDS):
            store.check_values()
            yield store
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise UserError("a run's trials.sqlite", f"{path} ({error})", "Audit again into another --out.") from error
    finally:
        store.close()


def _stop_after(db: sqlite3.Connection, seconds: float, over: LockType, ended: LockType) -> None:
    """Once the time is up, stop what the database does, again and again until its user has noticed."""
    try:
        if not over.acquire(timeout=seconds):
            while not over.acquire(timeout=0.05):
                db.interrupt()
    finally:
        ended.release()


def _trial(row: dict[str, Any], planned: Mapping[str, TrialRecord]) -> TrialResult:
    known, settled = planned.get(row["id"]), row["converged"]
    alike = known is not None and json.dumps(known.spec, sort_keys=True) == row["spec"]
    row["spec"] = known if alike else parse_json(row["spec"])
    row["fit"] = parse_json(row["fit"])
    row["converged"] = None if settled is None else bool(settled)  # SQLite has no truth values
    return TrialResult.parse(row)


def _rows(result: Result) -> list[tuple[Any, ...]]:
    rows = []
    for (split, measure), values in result.scores.items():
        reasons = result.reasons.get((split, measure), {})
        for item, value in values.items():
            number = float(value)
            known = np.isfinite(number)
            why = "" if known else reasons.get(item) or result.reason or "not a number"
            rows.append((result.id, split, measure, item, number if known else None, why))
    return rows


def finished(path: Path) -> int:
    """How many trials a run's database holds; 0 where there is none that can be read."""
    if not path.exists():
        return 0
    try:
        store = Store(path)
    except (UserError, sqlite3.Error):
        return 0  # said where the run begins
    try:
        return len(store.done())
    finally:
        store.close()
