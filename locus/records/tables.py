"""What a store is made of, and that a file is made so before anything is run on it or written to it."""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from locus.boundary.incoming import regular
from locus.errors import UserError

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE trials (
        id TEXT PRIMARY KEY, role TEXT NOT NULL, arm TEXT NOT NULL, claim TEXT NOT NULL, spec TEXT NOT NULL,
        state TEXT NOT NULL, seconds REAL, converged INTEGER, reason TEXT NOT NULL, finished REAL, fit TEXT NOT NULL
    );
    CREATE TABLE scores (
        trial TEXT NOT NULL, split TEXT NOT NULL, measure TEXT NOT NULL, item TEXT NOT NULL, value REAL, reason TEXT NOT NULL,
        PRIMARY KEY (trial, split, measure, item)
    ) WITHOUT ROWID;
    CREATE TABLE texts (
        trial TEXT NOT NULL, split TEXT NOT NULL, item TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (trial, split, item)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE costs (
        trial TEXT NOT NULL, work TEXT NOT NULL, tokens NUMERIC NOT NULL, layers NUMERIC NOT NULL, tails NUMERIC NOT NULL,
        pairs NUMERIC NOT NULL, scored NUMERIC NOT NULL, reused NUMERIC NOT NULL, macs NUMERIC NOT NULL, spared NUMERIC NOT NULL,
        PRIMARY KEY (trial, work)
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE costs ADD COLUMN bare NUMERIC NOT NULL DEFAULT 0;",
)
MOST_PARTS = 100  # tables and indices


def check_files(path: Path) -> None:
    """Refuse a link, a pipe or a device where the database, its log, its index or its journal should be.

    SQLite would follow it, or wait.
    """
    for part in (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")):
        if part.is_symlink() or (part.exists() and not regular(part)):
            raise UserError("a run's trials.sqlite", f"{part}, which is no regular file", "Give another --out folder.")


def defend(db: sqlite3.Connection) -> None:
    """Have a database that somebody else may have made do what our own statements say, and nothing that it brought along.

    A trigger or a view never gets past the check of the layout; a trigger that did would not run.
    """
    db.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    db.execute("PRAGMA mmap_size = 0")
    for switch, on in (("DEFENSIVE", True), ("ENABLE_TRIGGER", False), ("ENABLE_VIEW", False), ("ENABLE_FKEY", False)):
        if (number := getattr(sqlite3, f"SQLITE_DBCONFIG_{switch}", None)) is not None:  # as of Python 3.12
            db.setconfig(number, on)  # type: ignore[attr-defined]


def known_version(db: sqlite3.Connection, path: Path) -> int:
    """The version of a store that is made exactly as locus makes one of that version."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if not 0 <= version <= len(MIGRATIONS):
        raise UserError(f"a store of version {len(MIGRATIONS)} or older", f"version {version}", "Use a newer locus.")
    if odd := sorted(layout(db) ^ _made(version)):
        received = f"{path}, with {odd[0][0]} {odd[0][1]!r} missing, added or of another make"
        raise UserError("a trials.sqlite with the tables that locus makes", received, "Give another --out folder.")
    return version


def layout(db: sqlite3.Connection) -> set[tuple[str, str, str, str]]:
    """Everything that a database is made of: kind, name, what it belongs to, and the statement that made it.

    All of it, SQLite's own indices of keys (`sqlite_autoindex_...`) included, so that no name hides anything.
    """
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    if len(rows) > MOST_PARTS:
        raise sqlite3.DatabaseError(f"made of more than {MOST_PARTS} parts")
    return {(str(kind), str(name), str(of), " ".join(str(sql).split())) for kind, name, of, sql in rows}


@cache
def _made(version: int) -> set[tuple[str, str, str, str]]:
    """What a store of a version is made of; a trigger or a view would do other things than the rows say."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        return layout(db)
