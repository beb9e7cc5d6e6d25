"""Runs of many trials: what is done to conclude them grows as they do, counted and not timed."""

import json
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest

from benchmarks.scale.grown import grow, small
from locus import conclude
from locus.boundary import incoming
from locus.conclude import derive
from locus.conclude.record import Record
from locus.conclude.scores import by_null
from locus.conclude.stopping import Stopping
from locus.errors import UserError
from locus.plan import document
from locus.plan.reading import read_plan
from locus.records.store import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return small(tmp_path_factory.mktemp("large") / "SMALL")


def steps(folder):
    """Calls of functions, and hundreds of steps of SQLite's, until a run is concluded."""
    counted = {"calls": 0, "steps": 0}

    def call(frame, event, argument):
        counted["calls"] += event in ("call", "c_call")

    def step():
        counted["steps"] += 1

    store = Store(folder / "trials.sqlite")
    store.db.set_progress_handler(step, 100)
    sys.setprofile(call)
    try:
        derive.write(folder, store, 0.0)
    finally:
        sys.setprofile(None)
    store.close()
    return counted


@pytest.mark.parametrize("sizes", [(2, 100, 1), (40, 2, 2)], ids=["many settings of a place", "many places"])
def test_twice_the_trials_take_twice_the_steps(tmp_path, run, sizes):
    places, settings, seeds = sizes
    twice = (places, 2 * settings, seeds) if settings > places else (2 * places, settings, seeds)
    found = []
    for number, size in enumerate((sizes, twice)):
        grow(run, tmp_path / str(number), *size)
        found.append(steps(tmp_path / str(number)))
    for what in found[0]:
        assert found[1][what] < 2.2 * found[0][what], what


def test_a_run_is_concluded_on_its_way_as_often_as_it_is_looked_at(tmp_path, run, monkeypatch):
    """Random Locations finished one by one; as often as there are looks, however many they are."""
    read = []
    whole = Store.trials
    monkeypatch.setattr(Store, "trials", lambda self, *planned: read.append(1) or whole(self, *planned))
    counts = []
    for places in (8, 32):
        folder = tmp_path / str(places)
        grow(run, folder, places, 1, 2)
        plan = json.loads((folder / "plan.json").read_text())
        plan["config"]["sequential"] = True
        (folder / "plan.json").write_text(json.dumps(plan))
        drawn = [trial["id"] for trial in plan["trials"] if trial["role"] == "random"]
        store = Store(folder / "trials.sqlite")
        store.db.executemany("UPDATE trials SET state = 'coming' WHERE id = ?", [(name,) for name in drawn])
        read.clear()
        stopping, looks = Stopping(read_plan(folder), store), range(places // 4, places + 1, places // 4)
        for number, name in enumerate(drawn):
            answer = stopping()
            assert number % 2 or number // 2 not in looks or answer == conclude.derive.enough(folder, store)
            store.db.execute("UPDATE trials SET state = 'done' WHERE id = ?", (name,))
        counts.append(len(read) - 3)  # without those read by the other way of asking
        assert stopping() is conclude.derive.enough(folder, store)
        store.close()
    assert counts[0] == counts[1] <= 6


def test_what_is_concluded_on_the_way_is_what_the_last_whole_look_says(tmp_path, run):
    """So a run that was killed between two looks may be asked at once when it goes on: it is told what it was told before."""
    grow(run, tmp_path / "RUN", 8, 1, 1)
    plan = json.loads((tmp_path / "RUN" / "plan.json").read_text())
    plan["config"]["sequential"] = True
    (tmp_path / "RUN" / "plan.json").write_text(json.dumps(plan))
    drawn = [trial["id"] for trial in plan["trials"] if trial["role"] == "random"]
    with closing(Store(tmp_path / "RUN" / "trials.sqlite")) as store:
        said = []
        for number in range(len(drawn) + 1):
            store.db.executemany("UPDATE trials SET state = 'coming' WHERE id = ?", [(name,) for name in drawn[number:]])
            store.db.executemany("UPDATE trials SET state = 'done' WHERE id = ?", [(name,) for name in drawn[:number]])
            said.append(repr(by_null(Record(read_plan(tmp_path / "RUN"), store))))
        looks = Record(read_plan(tmp_path / "RUN"), store).config.looks
    assert len(set(said)) > 1
    assert said == [said[max((look for look in looks if look <= number), default=0)] for number in range(len(drawn) + 1)]


def test_a_table_of_scores_is_what_is_read_one_by_one(run):
    store = Store(run / "trials.sqlite")
    names = sorted(store.done())
    items = ["of no question", *(item.id for item in read_plan(run).items.test)]
    table = store.table([*names, "none"], "test", "mc2", items)
    for row, name in zip(table, [*names, "none"], strict=True):
        assert row.tobytes() == store.scores(name, "test", "mc2", items).tobytes()
    assert [store.holds(name) for name in [*names, "none"]] == [True] * len(names) + [False]
    store.close()


def test_a_plan_that_could_not_be_read_again_is_not_written(tmp_path, run, monkeypatch):
    plan = read_plan(run)
    monkeypatch.setattr(incoming, "JSON_BYTES", 1 << 12)
    with pytest.raises(UserError, match="a plan of 0 MB or less"):
        document.fix(SimpleNamespace(record=plan), tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()
