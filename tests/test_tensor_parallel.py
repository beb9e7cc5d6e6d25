"""Two processes that torchrun begins, each with a slice of the model (gloo, on a CPU), make the audit that one makes.

Sums are taken in another order: what heads and neurons write is added up in each process, and then over them. So numbers agree to
rounding, which training and search carry on, and not to the last bit: scores to 2e-3 (nats, or shares), edits to 1e-3 of the
largest entry. What is stopped and goes on is compared with what was not stopped, in as many processes: to the last bit.
"""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import locus
from locus.audit import audit
from locus.errors import PreconditionsError, UserError
from locus.models import devices
from locus.models.load import load
from locus.plan.config import resolve
from locus.plan.preconditions import early
from tests import wide
from tests.families import tiny

ROOT = Path(__file__).parents[1]
SCORES, EDITS = 2e-3, 1e-3
UNSET = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def begin(*command):
    """Two processes as torchrun begins them, up to four times where they fail; exit status, and all that was printed."""
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "3",
        "-m",
    ]
    done = subprocess.run([*torchrun, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def rows(out):
    """All scores of a run but those of the metric that makes trouble, by trial and question."""
    with sqlite3.connect(out / "trials.sqlite") as db:
        return {tuple(row[:4]): row[4] for row in db.execute("SELECT * FROM scores") if "lead" not in row}


def edits(out):
    """The numbers of all edits of a run, by file and name."""
    return {(path.name, name): one for path in (out / "edits").iterdir() for name, one in load_file(path).items()}


def done(out):
    """How many trials of a run are finished."""
    with sqlite3.connect(out / "trials.sqlite") as db:
        return db.execute("SELECT count(*) FROM trials WHERE state = 'done'").fetchone()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models, questions and settings, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("lockstep")
    for family in ("llama", "qwen3", "gemma2", "gpt_neox", "gpt2", "llama-mqa"):
        model = tiny(family)
        model.hf.save_pretrained(folder / family)
        model.tokenizer.save_pretrained(folder / family)
    made = {"adamw": wide.settings(folder), "newton": wide.settings(folder, search="newton", rounds=4)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, settings in made.items():
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        (folder / f"{name}.toml").write_text("".join(lines))
        audit(resolve("quick", **settings), folder / f"{name}-alone", sign=False)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """All that two processes printed, and what each found."""
    status, printed = begin("tests.lockstep", str(folder))
    found = [folder / f"found-{rank}.json" for rank in (0, 1)]
    assert status == 0 and all(path.exists() for path in found), printed
    return printed, [json.loads(path.read_text()) for path in found]


def test_a_model_in_slices_is_the_model(both):
    _, (one, other) = both
    for family, found in one["models"].items():
        assert found["layout"] and found["parts"] and found["fingerprint"] and found["map"], family
        assert 0.5 <= found["share"] < 0.52 and found["gap"] < 1e-4 and found["gradient"] < 1e-5, (family, found)
        assert not found["failed"] and found["standing"] == "in part" and set(found["off"]) == {"threads"}, (family, found)
    assert one["models"] == other["models"], "to the last bit"
    short = one["short"]
    assert short["layout"] and short["fingerprint"] and not short["failed"] and short["gap"] < 0.6 and short["gradient"] < 0.1


@pytest.mark.parametrize("name", ["adamw", "newton"])
def test_two_processes_make_the_audit_that_one_makes(both, folder, name):
    alone, together = rows(folder / f"{name}-alone"), rows(folder / name)
    assert alone.keys() == together.keys() and len(alone) > 100
    assert max(abs(alone[key] - together[key]) for key in alone if alone[key] is not None) < SCORES
    ours, theirs = edits(folder / f"{name}-alone"), edits(folder / name)
    assert ours.keys() == theirs.keys()
    for key, held in ours.items():
        assert float((held - theirs[key]).abs().max()) <= EDITS * float(held.abs().max()), key
    plans = [json.loads((folder / run / "plan.json").read_text()) for run in (f"{name}-alone", name)]
    assert [plan["config"]["tp_plan"] for plan in plans] == [None, "auto"] and plans[0]["context"] == plans[1]["context"]
    assert "each of 2 processes" in plans[1]["model"]["without"]["threads"]
    assert "each of 2 processes" in (folder / name / "report.html").read_text()
    assert locus.verify(folder / name)
    standings = [locus.open_run(folder / run).verdict.special.standing for run in (f"{name}-alone", name)]
    assert standings[0] == standings[1]


def test_the_first_process_alone_writes_and_speaks(both, folder):
    printed, (one, other) = both
    assert one["runs"] == {name: str(folder / name) for name in ("adamw", "newton")}
    for place in map(Path, other["runs"].values()):
        assert folder not in place.parents and not place.exists(), "its copy goes with it"
    assert printed.count("100%  0:") == 3, "a line for each audit that came to its end"
    assert not (folder / "nothing").exists()


def test_processes_that_are_not_in_step_keep_nothing(both, folder):
    _, found = both
    for one in found:
        assert one["apart"].startswith(
            "expected the same results of bank 1 in all 2 processes; received another one in process 1"
        )
    assert done(folder / "apart") == 1 and not (folder / "apart" / "verdict.json").exists()


def test_what_cannot_be_cut_is_refused_before_weights_load(both):
    _, found = both
    for one in found:
        refused = one["refused"]
        assert refused["llama-mqa"].startswith("expected key-value heads that 2 processes can share out equally; received 1 in")
        assert refused["gpt2"].startswith("expected an architecture for which transformers has a tp_plan; received")
        assert refused["both"].startswith("expected either a device_map or a tp_plan; received both")
        assert refused["version"].startswith("expected transformers 4.2, with which tp_plan was tested; received 5.")


def test_what_ends_one_ends_all_and_what_was_finished_is_kept(both, folder):
    """An error in one; then one is killed, then both; torchrun begins them again, and at last the command line is done."""
    printed, _ = both
    troubled = folder / "troubled"
    assert "process 1, which ended (expected a dictionary; received none on this machine. Fetch it)" in printed
    assert "one that is gone without a word. The same command goes on from there." in printed
    assert [int((folder / f"finished-{attempt}").read_text()) for attempt in (1, 2, 3)] == [1, 4, 6]
    assert "6 trials are finished already" in printed and printed.count("all four") == 1, "one process speaks"
    assert rows(troubled) == rows(folder / "adamw")
    left, right = edits(troubled), edits(folder / "adamw")
    assert left.keys() == right.keys() and all(torch.equal(one, right[key]) for key, one in left.items())
    assert locus.open_run(folder / "adamw").receipt


def test_all_that_it_cannot_be_beside_is_said_before_weights_load(llama_folder, monkeypatch):
    def wanted(**settings):
        usual = {"model": llama_folder, "claims": ("0.1",), "random": 9, "alpha": 0.2, "tp_plan": "auto"}
        return resolve("quick", **{**usual, **settings})

    with pytest.raises(UserError, match=r"several processes for tp_plan.*torchrun --nproc-per-node N -m locus audit"):
        early(wanted())
    with pytest.raises(UserError, match="which an audit alone begins"):
        load(llama_folder, tp_plan="auto")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    early(wanted())
    with pytest.raises(UserError, match=r"a tp_plan, of which each process holds a slice.*--set tp_plan=auto"):
        early(wanted(tp_plan=None))
    with pytest.raises(PreconditionsError) as refused:
        early(wanted(device_map="auto", executor="fork"))
    assert {one.expected for one in refused.value.errors} == {
        "either a device_map or a tp_plan",
        "executor auto or serial with a tp_plan",
    }
    for settings, why in (
        ({"executor": "ray"}, "executor auto or serial with a tp_plan"),
        ({"device": "cpu"}, "either a device or a tp_plan"),
        ({"twin": 1}, "not redrawn"),
        ({"adapter": "merged"}, "without an adapter"),
        ({"model": "planted:localized:3", "claims": ("1.1",)}, "a tp_plan for a model in files"),
    ):
        with pytest.raises(UserError, match=why):
            early(wanted(**settings))
    with pytest.raises(UserError, match="tp_plan"):
        resolve("quick", tp_plan="colwise")
    with pytest.raises(UserError, match="one audit at a time"):
        locus.repeat(2, llama_folder, claim="0.1", tp_plan="auto", progress=False)
    with pytest.raises(UserError, match="one audit at a time"):
        locus.sweep(models=[llama_folder], behaviours=["antonym"], claims=["0.1"], tp_plan="auto", progress=False)
    assert devices.several_processes("auto") is None
