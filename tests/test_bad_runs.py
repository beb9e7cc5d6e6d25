"""Run folders that are cut, edited, mixed up or of a newer version: commands say what is wrong, and none breaks."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from locus.calibrate import power
from locus.errors import UserError, VerificationError
from locus.plan.config import AuditConfig
from locus.plan.preconditions import early
from locus.report import export, page
from locus.report.verify import STORE, verify


def cut(name, share=0.5):
    """The first part of a file, as a full disk or a broken copy leaves it."""

    def spoil(run):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(len(content) * share)])

    return spoil


def written(name, content):
    return lambda run: (run / name).write_bytes(content)


def edited(name, change):
    def spoil(run):
        content = json.loads((run / name).read_text())
        change(content)
        (run / name).write_text(json.dumps(content))

    return spoil


def sql(run, statement):
    """Change a store; closed, so that the change is in the file and not in its log."""
    with closing(sqlite3.connect(run / STORE, isolation_level=None)) as db:
        db.execute(statement)


def cut_edits(run):
    for path in (run / "edits").iterdir():
        path.write_bytes(path.read_bytes()[:30])


PLAN = {
    "half a plan": cut("plan.json"),
    "an empty plan": cut("plan.json", 0),
    "a plan that is a list": written("plan.json", b"[]"),
    "a plan that is no text": written("plan.json", b"\xff\xfe\x00"),
    "a newer plan": edited("plan.json", lambda plan: plan.update(schema="locus-plan/9")),
    "a plan without claims": edited("plan.json", lambda plan: plan.pop("claims")),
    "a plan with a setting of tomorrow": edited("plan.json", lambda plan: plan["config"].update(tomorrow=1)),
    "no plan": lambda run: (run / "plan.json").unlink(),
}
SCORES = {
    "half a store": cut(STORE),
    "a store that is text": written(STORE, b"hello" * 1000),
    "a newer store": lambda run: sql(run, "PRAGMA user_version = 9"),
    "no store": lambda run: (run / STORE).unlink(),
}
VERDICT = {
    "half a verdict": cut("verdict.json"),
    "a verdict that is a list": written("verdict.json", b"[]"),
    "a newer verdict": edited("verdict.json", lambda found: found.update(schema="locus-verdict/9")),
    "a claim without an answer": edited("verdict.json", lambda found: found["claims"][0].pop("works")),
    "a verdict without random places": edited("verdict.json", lambda found: found.pop("random")),
}
RECEIPT = {
    "half a receipt": cut("receipt.json"),
    "a receipt that is a list": written("receipt.json", b"[]"),
    "a newer receipt": edited("receipt.json", lambda sealed: sealed.update(schema="locus-receipt/9")),
    "a receipt without a body": edited("receipt.json", lambda sealed: sealed.pop("body")),
    "a receipt whose body is a list": edited("receipt.json", lambda sealed: sealed.update(body=[1])),
    "a receipt whose signature is a word": edited("receipt.json", lambda sealed: sealed.update(signature="trust me")),
}
EVERY = PLAN | SCORES | VERDICT | RECEIPT


@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_refused_and_what_is_there_stays(run_copy, name):
    EVERY[name](run_copy)
    before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.suffix in (".json", ".html")}
    with pytest.raises(UserError):
        page.write(run_copy)
    assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.suffix in (".json", ".html")} == before


@pytest.mark.parametrize("name", EVERY)
def test_nothing_of_it_is_verified(run_copy, name):
    EVERY[name](run_copy)
    with pytest.raises((UserError, VerificationError)):
        verify(run_copy)


@pytest.mark.parametrize("name", PLAN | SCORES)
def test_nothing_of_it_is_exported_or_measured(run_copy, tmp_path, name):
    (PLAN | SCORES)[name](run_copy)
    trial = next((run_copy / "edits").iterdir()).stem
    with pytest.raises(UserError if name in PLAN else VerificationError):
        export.export_scores(run_copy, tmp_path / "scores")
    if name in PLAN:
        with pytest.raises(UserError):
            export.export_edit(run_copy, trial, tmp_path / "edit")
    with pytest.raises(UserError):
        power.scales(run_copy)
    assert not (tmp_path / "scores").exists() and not (tmp_path / "edit").exists(), "nothing is left half done"


@pytest.mark.parametrize("name", PLAN)
def test_no_audit_goes_on_from_a_broken_plan(run_copy, name):
    config = AuditConfig.recorded(json.loads((run_copy / "plan.json").read_text())["config"])
    PLAN[name](run_copy)
    with pytest.raises(UserError, match=r"plan|of this audit"):
        early(config, run_copy)


def test_a_cut_edit_is_neither_exported_nor_verified(run_copy, tmp_path):
    trial = next((run_copy / "edits").iterdir()).stem
    cut_edits(run_copy)
    with pytest.raises(UserError, match="edit"):
        export.export_edit(run_copy, trial, tmp_path / "edit")
    with pytest.raises(VerificationError, match="safetensors"):
        verify(run_copy)


def test_files_of_two_runs_do_not_pass_for_one(run_copy, small_run, tmp_path):
    """A signature, a store or a verdict that is in order, but another run's."""
    other = shutil.copytree(small_run, tmp_path / "other")
    sql(other, "UPDATE scores SET value = 1 - value WHERE measure = 'mc1'")
    for name in (STORE, "verdict.json"):
        kept = (run_copy / name).read_bytes()
        (run_copy / name).write_bytes((other / name).read_bytes() + (b"\n" if name == "verdict.json" else b""))
        with pytest.raises(VerificationError):
            verify(run_copy)
        (run_copy / name).write_bytes(kept)
    verify(run_copy)


def test_half_a_run_shows_what_there_is(run_copy):
    """As a run that was killed leaves it: no verdict, no receipt, some trials."""
    for name in ("verdict.json", "receipt.json", "report.html"):
        (run_copy / name).unlink()
    sql(run_copy, "DELETE FROM trials WHERE role IN ('complement', 'random')")
    text = page.write(run_copy).read_text(encoding="utf-8")
    assert "Not finished" in text and "There is no receipt yet" in text and not (run_copy / "receipt.json").exists()
    with pytest.raises(UserError, match="not finished"):
        verify(run_copy)
