"""A run that was cut goes on to the same rows and the same edits, bit for bit, whatever the process that goes on could do."""

import errno
import importlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from locus import atomic
from locus.audit import audit
from locus.errors import UserError
from locus.machine.threads import using
from locus.plan.config import resolve
from locus.plan.preconditions import early
from locus.records.store import Store
from locus.report.consent import Given
from locus.report.rerun import rerun
from locus.report.verify import verify
from tests import wide

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return wide.settings(tmp_path_factory.mktemp("wide"))


@pytest.fixture(autouse=True, scope="module")
def cached(tmp_path_factory):
    """With a cache of its own: what the base model says is read from it, and must be what would be computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOCUS_CACHE_GB", "1")
        yield


class Cut(Exception):
    """A process that ends here."""


def audited(settings, out, threads, upto=None, page=False):
    """Run an audit in a process of so many threads, cut where it would commit bank number `upto`; with its page or without."""
    commit, committed = Store.commit, []

    def cut(store, results):
        if len(committed) == upto:
            raise Cut
        committed.append(results)
        commit(store, results)

    with pytest.MonkeyPatch.context() as patch, using(threads):
        patch.setattr(Store, "commit", cut)
        if not page:
            patch.setattr("locus.report.page.write", lambda *_, **__: None)
        audit(resolve("quick", **settings), out, sign=False)


def read(path):
    """What an edit's file holds; in which order safetensors writes its metadata is left to chance."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}


def content(out):
    """All rows of a run, what was said in it, and all its edits."""
    store = Store(out / "trials.sqlite")
    rows, texts = store.dump(), {one.id: store.texts(one.id, "test") for one in store.trials()}
    store.close()
    return rows, texts, {path.name: read(path) for path in sorted((out / "edits").iterdir())}


def cut_back(whole, out, upto):
    """A copy of a finished run as a kill after so many of its banks would have left it."""
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("verdict.json", "receipt.json"))
    banks = json.loads((out / "plan.json").read_text())["banks"]
    lost = [trial for bank in banks[upto:] for trial in bank]
    with sqlite3.connect(out / "trials.sqlite") as db:
        for trial in lost:
            db.execute("DELETE FROM trials WHERE id = ?", (trial,))
            for table in ("scores", "texts", "costs"):
                db.execute(f"DELETE FROM {table} WHERE trial = ?", (trial,))
            (out / "edits" / f"{trial}.safetensors").unlink(missing_ok=True)
    db.close()
    return out


def arithmetic(out):
    return json.loads((out / "plan.json").read_text())["arithmetic"]


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    """Runs that nothing disturbed, by number of threads, made when they are asked for."""
    made = {}

    def run(threads):
        if threads not in made:
            made[threads] = tmp_path_factory.mktemp("undisturbed") / "RUN"
            audited(settings, made[threads], threads)
        return made[threads]

    return run


@pytest.mark.parametrize(("threads", "cuts"), [(2, range(5)), (1, [4]), (4, [4])])
def test_wherever_it_was_cut_it_goes_on_to_the_same_bits(settings, undisturbed, tmp_path, recwarn, threads, cuts):
    whole = undisturbed(threads)
    banks = json.loads((whole / "plan.json").read_text())["banks"]
    assert [len(bank) for bank in banks] == [1, 3, 2, 1, 1]
    for upto in cuts:
        out = cut_back(whole, tmp_path / f"RUN-{upto}", upto)
        assert len(content(out)[2]) == max(0, sum(len(bank) for bank in banks[:upto]) - 1), "the base model has no edit"
        audited(settings, out, threads)
        assert content(out) == content(whole)
        assert (out / "plan.json").read_bytes() == (whole / "plan.json").read_bytes()
    assert not [one for one in recwarn if "threads" in str(one.message)], "the same number is not worth a word"


def test_threads_do_change_the_last_digits(undisturbed):
    """Else nothing here would be tested."""
    one, two = (content(undisturbed(threads)) for threads in (1, 2))
    assert one[0] != two[0]
    for mine, other in zip(one[0], two[0], strict=True):
        assert mine[:4] == other[:4] and mine[4] == pytest.approx(other[4], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("begun", "after"), [(2, 1), (1, 3)])
def test_another_number_of_threads_is_said_and_the_plans_is_kept(settings, undisturbed, tmp_path, begun, after):
    cut_back(undisturbed(begun), tmp_path / "RUN", 3)
    with pytest.warns(UserWarning, match=f"begun with {begun} threads and goes on with {begun}, though .* would have {after}"):
        audited(settings, tmp_path / "RUN", after)
    assert content(tmp_path / "RUN") == content(undisturbed(begun))
    assert arithmetic(tmp_path / "RUN") == {"threads": begun, "bank": 1, "held": 3}
    found, receipt = (json.loads((tmp_path / "RUN" / name).read_text()) for name in ("verdict.json", "receipt.json"))
    assert found["arithmetic"] == arithmetic(tmp_path / "RUN")
    assert f"{begun} threads" in receipt["body"]["device"]
    assert verify(tmp_path / "RUN").kind == "run"


@pytest.mark.parametrize("before", [1, 2])
def test_how_many_banks_the_memory_holds_decides_once(settings, undisturbed, tmp_path, monkeypatch, before):
    """Begun one after another, each with two threads, or side by side; what fits when it goes on changes nothing."""
    whole, out = tmp_path / "whole", tmp_path / "RUN"
    monkeypatch.setattr(importlib.import_module("locus.plan.document"), "fitting", lambda most, nbytes: min(most, before))
    audited(settings, whole, 2)
    cut_back(whole, out, 2)
    monkeypatch.setattr(importlib.import_module("locus.plan.document"), "fitting", lambda most, nbytes: min(most, 3 - before))
    audited(settings, out, 2)
    assert content(out) == content(whole)
    assert arithmetic(out)["bank"] == 3 - before
    assert (content(whole)[0] == content(undisturbed(2))[0]) == (before == 2)


@pytest.mark.filterwarnings("ignore:.*is not cached")
@pytest.mark.parametrize("gigabytes", [("0.000001", "1"), ("1", "0.000001")])
def test_how_much_the_cache_holds_decides_once(settings, tmp_path, monkeypatch, gigabytes):
    monkeypatch.setenv("LOCUS_CACHE_GB", gigabytes[0])
    audited(settings, tmp_path / "whole", 2)
    cut_back(tmp_path / "whole", tmp_path / "RUN", 2)
    monkeypatch.setenv("LOCUS_CACHE_GB", gigabytes[1])
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "another"))  # all that was kept is gone
    audited(settings, tmp_path / "RUN", 2)
    assert content(tmp_path / "RUN") == content(tmp_path / "whole")
    assert arithmetic(tmp_path / "RUN")["held"] == (1 if gigabytes[0] == "0.000001" else 3)


def test_probing_and_speech_are_the_same_too(settings, tmp_path):
    """The claim is found by logistic regressions, whose products are another library's; what edited models say is judged."""
    speaking = {**settings, "claims": ("probe",), "claim_size": 2, "judge": "blind", "metric": "mc2", "max_new_tokens": 3}
    audited(speaking, tmp_path / "whole", 2)
    with pytest.raises(Cut):
        audited(speaking, tmp_path / "RUN", 2, 4)
    with pytest.warns(UserWarning, match="threads"):
        audited(speaking, tmp_path / "RUN", 1)
    assert content(tmp_path / "RUN") == content(tmp_path / "whole")
    assert content(tmp_path / "RUN")[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trial_that_is_repeated_elsewhere_is_the_same_to_the_last_bit(undisturbed, threads):
    with using(3 - threads):
        named = json.loads((undisturbed(threads) / "plan.json").read_text())["config"]
        given = Given(model=named["model"], data=named["data"])  # a plan's own word counts for nothing
        found = rerun(undisturbed(threads), 2, seed=0, given=given)
    assert set(found["largest"].values()) == {0.0}


@pytest.mark.parametrize(
    "wrong", [None, {"threads": 2}, {"threads": 10**6, "bank": 1, "held": 3}, {"threads": True, "bank": 1, "held": 3}]
)
def test_a_plan_that_asks_for_what_no_plan_asks_for_is_refused(settings, undisturbed, tmp_path, wrong):
    out = Path(shutil.copytree(undisturbed(2), tmp_path / "RUN"))
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps({**plan, "arithmetic": wrong}))
    with pytest.raises(UserError, match="arithmetic"):
        audited(settings, out, 2)


def test_a_finished_folder_holds_what_its_receipt_names_and_nothing_else(settings, tmp_path, monkeypatch):
    """What killed processes leave: edits that were not committed, and files half written, by this edition or the first."""
    out, before, sequential = tmp_path / "RUN", torch.get_num_threads(), {**settings, "sequential": True, "random": 8}
    with pytest.raises(Cut):
        audited(sequential, out, 3, 2)
    assert torch.get_num_threads() == before, "they are given back"
    plan = json.loads((out / "plan.json").read_text())
    for trial in plan["trials"]:
        if not (path := out / "edits" / f"{trial['id']}.safetensors").exists():
            path.write_bytes(b"of a process that was killed")
    for place in (out, out / "edits"):
        (place / f"{atomic.MARK}0123456789abcdef").write_bytes(b"half")
        (place / ".plan.json.4711").write_bytes(b"half")
    for again in range(2):
        audited(sequential, out, 3, page=True)
        receipt = json.loads((out / "receipt.json").read_text())
        named = {"receipt.json", *receipt["body"]["artefacts"], *receipt["body"]["database"], *receipt["views"]["files"]}
        assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == named
        store = Store(out / "trials.sqlite")
        edited = {trial.id for trial in store.trials() if trial.spec.edit != "none"}
        store.close()
        assert {path.stem for path in (out / "edits").iterdir()} == edited
        assert len(edited) < len(plan["trials"]) - 1, "it ended early"
        assert verify(out).kind == "run", again
        # Given again, it trains nothing to find out that nothing more can change.
        monkeypatch.setattr("locus.run.task.do_bank", lambda *_: pytest.fail("a bank is run"))


def test_what_is_being_written_is_not_swept(tmp_path):
    """Another process's file stays while it lives, and goes when it was killed."""
    script = f"""
import os, sys
from pathlib import Path
from locus import atomic
os.fsync = lambda descriptor: (print("writing", flush=True), sys.stdin.read())
atomic.replace(Path({str(tmp_path / "a.txt")!r}), "whole")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    atomic.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    process.kill()
    process.communicate()
    atomic.sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_kill_between_the_plan_and_the_first_edit_leaves_a_folder_that_goes_on(settings, tmp_path, monkeypatch):
    made = atomic.folder

    def cut(path):
        if path.name == "edits":
            raise Cut
        return made(path)

    monkeypatch.setattr(atomic, "folder", cut)
    with pytest.raises(Cut):
        audited(settings, tmp_path / "RUN", 2)
    early(resolve("quick", **settings), tmp_path / "RUN")


@pytest.mark.parametrize("done", [4, 5])
def test_a_disk_that_is_full_is_said_and_the_run_goes_on(settings, undisturbed, tmp_path, monkeypatch, done):
    """In a worker, which writes edits, and in the process that writes the verdict."""
    out = cut_back(undisturbed(2), tmp_path / "RUN", done)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        patch.setenv("LOCUS_CACHE_GB", "0")
        with pytest.raises(UserError, match=r"room on the disk.*No space left.*same command"):
            audited(settings, out, 2)
    assert not list(out.rglob(f"{atomic.MARK}*"))
    audited(settings, out, 2)
    assert content(out) == content(undisturbed(2))


def test_killed_at_random_moments_it_ends_with_the_same_rows(tmp_path):
    """The study of kills, at five: SIGKILL at random moments and in the midst of writing."""
    command = [sys.executable, "-m", "studies.kills", "--kills", "5", "--seed", "1", "--threads", "2", "--runs", "wide"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["kills"] == 5 and found["finished"] >= 1 and found["different"] == 0
