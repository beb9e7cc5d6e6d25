"""An audit in parts: put together they are the run of one machine, and what does not belong together is refused."""

import json
import re
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import locus
from locus.audit import audit
from locus.cli.app import app
from locus.errors import UserError
from locus.merge import merge
from locus.plan.config import resolve
from locus.plan.parts import Part
from locus.records.store import Store
from locus.report.export import export_scores
from locus.report.verify import verify
from tests import wide

COUNT = 8


def scores(out):
    """The scores' file as `locus export --as scores` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        export_scores(out, Path(folder))
        return (Path(folder) / "scores.csv").read_bytes()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return wide.settings(tmp_path_factory.mktemp("wide"), search="newton", random=8, sequential=True, bank=1)


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """One machine's run, to its last trial."""
    out = tmp_path_factory.mktemp("whole") / "RUN"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("locus.conclude.stopping.Stopping.__call__", lambda _: False)
        audit(resolve("quick", **settings), out, sign=False)
    return out


@pytest.fixture(scope="module")
def eight(settings, tmp_path_factory):
    place = tmp_path_factory.mktemp("eight")
    for number in range(1, COUNT + 1):
        found = audit(resolve("quick", **settings), place / f"RUN{number}", sign=False, part=Part(number, COUNT))
        assert found.unfinished and not (place / f"RUN{number}" / "verdict.json").exists()
    return [place / f"RUN{number}" for number in range(1, COUNT + 1)]


@pytest.fixture
def copies(eight, tmp_path):
    return [shutil.copytree(part, tmp_path / "parts" / part.name) for part in eight]


def verdict(out):
    found = json.loads((out / "verdict.json").read_text())
    return {name: value for name, value in found.items() if name not in ("seconds", "cost")}


def test_eight_parts_are_the_run_of_one_machine(whole, eight, tmp_path):
    merge(eight, tmp_path / "RUN", sign=False)
    assert scores(tmp_path / "RUN") == scores(whole)
    assert (tmp_path / "RUN" / "plan.json").read_bytes() == (whole / "plan.json").read_bytes()
    assert verdict(tmp_path / "RUN") == verdict(whole)
    assert verify(tmp_path / "RUN").kind == "run"
    assert {path.name for path in (tmp_path / "RUN" / "edits").iterdir()} == {path.name for path in (whole / "edits").iterdir()}
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"
    with pytest.raises(UserError, match="a new folder to merge into"):
        merge(eight, tmp_path / "RUN")


def test_every_bank_is_in_one_part_and_where_it_starts_from_is_there_too(eight):
    plan = json.loads((eight[0] / "plan.json").read_text())
    starts = {trial["id"]: set(trial.get("starts", ())) for trial in plan["trials"]}
    assert any(starts.values())
    held = []
    for part in eight:
        store = Store(part / "trials.sqlite")
        held.append(store.done())
        store.close()
    assert sorted(trial for done in held for trial in done) == sorted(starts)
    assert all(starts[trial] <= done for done in held for trial in done)


def test_what_two_parts_hold_alike_is_taken_once(whole, eight, tmp_path):
    merge([*eight, whole], tmp_path / "RUN", sign=False)
    assert scores(tmp_path / "RUN") == scores(whole)


def test_a_gap_is_refused_unless_it_could_change_nothing(settings, eight, tmp_path):
    with pytest.raises(UserError, match=r"all trials of the plan; received \d+ of \d+ missing"):
        merge(eight[1:], tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists() and not list(tmp_path.glob(".*"))
    audit(resolve("quick", **{**settings, "alpha": 0.45}), tmp_path / "EARLY", sign=False)
    done = json.loads((tmp_path / "EARLY" / "verdict.json").read_text())["drawn"]
    assert done["stopped_early"], "else this tests nothing"
    merge([tmp_path / "EARLY"], tmp_path / "RUN", sign=False)
    assert verdict(tmp_path / "RUN") == verdict(tmp_path / "EARLY")


def test_a_conflict_is_refused(copies, whole, tmp_path):
    with sqlite3.connect(copies[2] / "trials.sqlite") as db:
        db.execute("UPDATE scores SET value = value + 1e-9 WHERE measure = 'margin'")
    db.close()
    with pytest.raises(UserError, match="parts that agree; received trial"):
        merge([*copies, whole], tmp_path / "RUN")


def test_foreign_plans_and_trials_are_refused(copies, settings, tmp_path):
    audit(resolve("quick", **{**settings, "seed": 1}), tmp_path / "OTHER", sign=False, part=Part(1, COUNT))
    with pytest.raises(UserError, match=r"with another one .*config.* differ"):
        merge([*copies, tmp_path / "OTHER"], tmp_path / "RUN")
    with sqlite3.connect(copies[2] / "trials.sqlite") as db:
        db.execute("UPDATE trials SET id = 'feedfeedfeedfeed' WHERE id = (SELECT min(id) FROM trials)")
    db.close()
    with pytest.raises(UserError, match="trials that the plan names; received 'feedfeedfeedfeed'"):
        merge(copies, tmp_path / "RUN")


def test_an_edit_that_is_missing_is_refused(copies, tmp_path):
    next((copies[3] / "edits").iterdir()).unlink()
    with pytest.raises(UserError, match="the edit of every finished trial"):
        merge(copies, tmp_path / "RUN")


def test_the_commands(tmp_path):
    said = []
    common = [
        "--model",
        "planted:localized:0",
        "--claim",
        "0.1",
        "--set",
        "sequential=false",
        "--set",
        "text_passages=0",
        "--no-sign",
    ]
    common += ["--random", "4", "--alpha", "0.25", *(f"--set={one}" for one in ("train=8", "validation=4", "test=6", "epochs=1"))]
    for number in (1, 2):
        out = str(tmp_path / f"RUN{number}")
        said.append(CliRunner().invoke(app, ["audit", "--part", f"{number}/2", "--out", out, *common]))
    assert all(one.exit_code == 0 and "`locus merge` joins all parts" in one.output for one in said), said
    done = [int(re.search(r"Part ./2: (\d+) of", one.output)[1]) for one in said]
    runs = [str(tmp_path / f"RUN{number}") for number in (1, 2)]
    merged = CliRunner().invoke(app, ["merge", *runs, "--out", str(tmp_path / "RUN"), "--no-sign"])
    assert merged.exit_code == 0 and "report.html" in merged.output
    plan = locus.open_run(tmp_path / "RUN").plan
    assert sum(done) == len(plan.trials) and min(done) > 1


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "a/b", "-1/4", "1/99999", "١/٢"])
def test_what_is_no_part_is_said(tmp_path, text):
    with pytest.raises(UserError, match="a part such as 3/8"):
        locus.audit("planted:localized:0", out=tmp_path / "RUN", part=text)
    assert not (tmp_path / "RUN").exists()
