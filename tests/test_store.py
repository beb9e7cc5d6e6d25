"""The store: a trial is there with all its scores or not at all."""

import contextlib
import gc
import random
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from locus.errors import UserError
from locus.plan.trials import Trial
from locus.records.plan import TrialSpec
from locus.records.result import FitRecord, Result
from locus.records.store import Store, reading
from locus.sites.site import Location

SPEC = TrialSpec.parse(Trial("claim", "probe", "probe", Location.parse("0.1"), "rank1", "0" * 64, read="layer").to_dict())


def result(identity="t1", value=1.5):
    scores = {("test", "mc1"): {"a": value, "b": float("nan")}}
    return Result(identity, SPEC, 2.0, True, scores=scores, texts={"test": {"a": "so"}})


def test_what_is_committed_is_there_again(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result("t1"), result("t2", 3.0)])
    store.close()
    again = Store(tmp_path / "x.sqlite")
    assert again.done() == {"t1", "t2"}
    assert again.trials()[0].spec == SPEC and again.trials()[0].converged is True
    np.testing.assert_array_equal(again.scores("t2", "test", "mc1", ["a", "b", "c"]), [3.0, np.nan, np.nan])
    assert again.measures("test") == ["mc1"]


def test_unscored_has_a_reason_and_no_value(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result()])
    rows = {row[3]: row[4:] for row in store.dump()}
    assert rows["a"] == (1.5, "") and rows["b"][0] is None and rows["b"][1]


def test_a_failing_commit_leaves_nothing(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result("t1")])
    with pytest.raises(UserError, match="one audit at a time"):
        store.commit([result("t2"), result("t1")])  # t1 a second time
    assert store.done() == {"t1"} and len(store.dump()) == 2


def test_a_full_disk_is_said_and_what_was_done_is_kept(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result("t1")])
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite's own "database or disk is full"
    big = result("t2")
    big.texts = {"test": {str(k): "x" * 5000 for k in range(50)}}
    with pytest.raises(UserError, match="room on the disk") as caught:
        store.commit([big])
    assert "finished trials are kept" in caught.value.remedy
    store.close()
    assert Store(tmp_path / "x.sqlite").done() == {"t1"}


def test_a_store_of_a_newer_version_is_refused(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(UserError, match="newer locus"):
        Store(tmp_path / "x.sqlite")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_text("no database at all, only text that goes on and on" * 20)
    with pytest.raises(UserError, match=r"trials\.sqlite"):
        Store(tmp_path / "x.sqlite")


def test_a_reader_sees_a_run_in_progress(tmp_path):
    writer = Store(tmp_path / "x.sqlite")
    writer.commit([result("t1")])
    reader = Store(tmp_path / "x.sqlite")
    writer.commit([result("t2")])
    assert reader.done() == {"t1", "t2"}


def test_a_note_is_written_once(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    store.note("plan", "a")
    store.note("plan", "b")
    assert store.meta("plan") == "a" and store.meta("none") is None


ENDLESS = "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c)"
BROUGHT = {
    "a rewriting trigger": "CREATE TRIGGER {} AFTER UPDATE OF state ON trials BEGIN UPDATE scores SET value = 0.999; END",
    "an endless trigger": "CREATE TRIGGER {} AFTER INSERT ON trials BEGIN SELECT " + ENDLESS + "; END",
    "an endless view": "CREATE VIEW {} AS SELECT " + ENDLESS,
    "a hidden table": "CREATE TABLE {} (says TEXT)",
}


@pytest.mark.parametrize("name", ["sqliteXevil", "sqlite_evil", "sqlite_autoindex_scores_2", "SQLITE_STAT1"])
@pytest.mark.parametrize("kind", BROUGHT)
def test_whatever_a_store_brings_along_is_seen_under_any_name_and_nothing_of_it_runs(tmp_path, kind, name):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result("t1")])
    store.close()
    with closing(sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)) as db:
        db.execute(BROUGHT[kind].format("sqliteXevil"))
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_master SET name = ?1, tbl_name = replace(tbl_name, 'sqliteXevil', ?1), "
            "sql = replace(sql, 'sqliteXevil', ?1) WHERE name = 'sqliteXevil'",
            (name,),
        )
    with pytest.raises(UserError, match=r"trials\.sqlite"):
        Store(tmp_path / "x.sqlite").commit([result("t2")])  # one that ran what came along would not end


def test_a_trigger_that_came_in_unseen_has_no_say(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    with closing(sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)) as db:
        db.execute(BROUGHT["a rewriting trigger"].format("evil"))
    with pytest.raises(sqlite3.DatabaseError, match="trigger"):
        store.commit([result("t1")])
    assert not store.done() and not store.dump()


def test_reading_a_store_ends(tmp_path):
    store = Store(tmp_path / "x.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), store.within(0.2):
        store.db.execute("SELECT " + ENDLESS)


def test_ctrl_c_is_never_taken_for_damage(tmp_path):
    """SQLite takes an interruption of Python code that it calls back for that code's answer, so there is no such code."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    path, heard, draw = tmp_path / "x.sqlite", 0, random.Random(0)
    Store(path).close()
    others = gc.callbacks[:]  # hypothesis has one, and what is raised there is lost
    gc.callbacks.clear()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(400):
            with contextlib.suppress(KeyboardInterrupt):  # one that falls into our own clean-up
                try:
                    signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 3e-3))
                    with reading(path) as store:
                        store.done()
                except KeyboardInterrupt:
                    heard += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.callbacks.extend(others)
    assert heard > 50


def test_a_training_that_diverged_at_once_can_be_read_again(tmp_path):
    store, one = Store(tmp_path / "x.sqlite"), result()
    one.fit = FitRecord(diverged=True, first_loss=None, loss_by_quarter=(0.5, None), steps=2)
    store.commit([one])
    assert store.trials()[0].fit == one.fit


@pytest.mark.parametrize("wrong", ['{"arm": "x"}', "NaN", "[]"])
def test_a_trial_that_is_none_is_said(tmp_path, wrong):
    store = Store(tmp_path / "x.sqlite")
    store.commit([result()])
    store.db.execute("UPDATE trials SET spec = ?", (wrong,))
    with pytest.raises(UserError, match="with a trial that is none"):
        store.trials()
