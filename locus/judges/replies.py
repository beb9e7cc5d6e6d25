"""Replies of a judge that costs money, on disk, by the content of the question: what was answered is never asked again."""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from locus.errors import UserError
from locus.records.base import JsonObject


def key_of(request: JsonObject) -> str:
    """SHA-256 (hex) of a request's sorted, compact JSON."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Replies:
    """A cache of replies in one SQLite file that several threads and several processes may share.

    Each reply is committed by itself as soon as it is there: a process killed at any moment loses only what it was waiting for.

    Args:
        path: the file; made if absent, with its folder.

    Raises:
        UserError: if the file cannot be used.
    """

    def __init__(self, path: Path):
        self._lock = threading.Lock()
        self.path = path
        if path.exists() and not path.is_file():
            raise self._broken("no regular file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise self._broken(str(error)) from error

    def get(self, key: str) -> str | None:
        """The reply to a request, if it was answered.

        Raises:
            UserError: if the file is damaged; so do the others.
        """
        row = next(iter(self._run("SELECT reply FROM replies WHERE key = ?", key)), None)
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> None:
        """Keep a reply; the first one stays."""
        self._run("INSERT OR IGNORE INTO replies VALUES (?, ?)", key, reply)

    def forget(self, key: str) -> None:
        """Keep no reply to this request any longer."""
        self._run("DELETE FROM replies WHERE key = ?", key)

    def keys(self) -> set[str]:
        """Keys of all requests that were answered."""
        return {row[0] for row in self._run("SELECT key FROM replies")}

    def close(self) -> None:
        """Close the file; what was kept stays."""
        with self._lock:
            self._db.close()

    def _run(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._db.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                expected = "room on the disk for judge replies"
                raise UserError(expected, f"{error} at {self.path}", "Free some space and run it again.") from error
            raise self._broken(str(error)) from error
        except sqlite3.Error as error:
            raise self._broken(str(error)) from error

    def _broken(self, why: str) -> UserError:
        return UserError("a cache of judge replies", f"{self.path} ({why})", "Remove the file, or set LOCUS_CACHE.")
