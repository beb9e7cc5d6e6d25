"""Finished trials of one store, compared with another's and copied there."""

from collections.abc import Iterable
from typing import Any

from locus.records.store import Store

TABLES = {"trials": "id", "scores": "trial", "texts": "trial", "costs": "trial"}  # and what a trial is looked up by
TOLD = ("trials", "scores", "texts")  # what came out of a trial, and not what it took
TIMES = ("seconds", "finished")


def take(store: Store, other: Store, trials: Iterable[str]) -> None:
    """Copy finished trials with all that belongs to them, all or nothing.

    Args:
        store: that lacks them.
        other: that has them, as `store.reading` gives it.
        trials: their ids.

    Raises:
        UserError: if the disk is full.
    """
    store.migrate()
    wanted = list(trials)
    with store.transaction():
        for table, key in TABLES.items():
            columns = _columns(other, table)  # an older store lacks some
            listed, places = ", ".join(columns), ", ".join("?" * len(columns))
            for trial in wanted if columns else ():
                rows = other.db.execute(f"SELECT {listed} FROM {table} WHERE {key} = ?", (trial,))
                store.db.executemany(f"INSERT INTO {table} ({listed}) VALUES ({places})", rows)


def outcome(store: Store, trial: str) -> dict[str, list[tuple[Any, ...]]]:
    """What came out of a trial, by table: all but how long it took."""
    columns = {table: [one for one in _columns(store, table) if one not in TIMES] for table in TOLD}
    return {
        table: sorted(store.db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {TABLES[table]} = ?", (trial,)), key=repr)
        for table, names in columns.items()
    }


def _columns(store: Store, table: str) -> list[str]:
    """Names of a table's columns; none where there is no such table."""
    return [str(row[1]) for row in store.db.execute(f'PRAGMA table_info("{table}")')]
