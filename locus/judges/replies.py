"""Replies of a judge that costs money, on disk, by the content of the question: what was answered is never asked again."""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

from locus.errors import UserError


def key_of(request: dict[str, Any]) -> str:
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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError("a cache of judge replies", f"{path} ({error})", "Remove the file, or set LOCUS_CACHE.") from error

    def get(self, key: str) -> str | None:
        """The reply to a request, if it was answered."""
        with self._lock:
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, reply: str) -> None:
        """Keep a reply; the first one stays."""
        try:
            with self._lock:
                self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, reply))
        except sqlite3.OperationalError as error:
            raise UserError(
                "room on the disk for judge replies", f"{error} at {self.path}", "Free some space and run it again."
            ) from error

    def keys(self) -> set[str]:
        """Keys of all requests that were answered."""
        with self._lock:
            return {row[0] for row in self._db.execute("SELECT key FROM replies")}

    def close(self) -> None:
        """Close the file; what was kept stays."""
        with self._lock:
            self._db.close()
