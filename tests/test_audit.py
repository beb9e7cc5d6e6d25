"""A whole audit on a tiny model: shape of the verdict, resuming after kills, and every kind of bad input."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from locus.audit import audit
from locus.cli.app import main
from locus.errors import PreconditionsError, UserError
from locus.plan.config import AuditConfig, learning_rate, resolve
from locus.plan.preconditions import early
from locus.records.store import Store

SMALL = {
    "sequential": False,
    "claims": ("0.1,2.3",),
    "train": 12,
    "validation": 5,
    "test": 10,
    "epochs": 1,
    "text_passages": 2,
    "text_tokens": 16,
    "iti_strengths": (5.0, 15.0),
    "shift_random": 1,
    "shift_everywhere": True,
    "bank": 3,
}


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("run") / "RUN"
    heard = []
    found = audit(resolve("quick", model=llama_folder, **SMALL), out, lambda what, share: heard.append(share))
    return out, found, heard


def test_the_run_folder_and_the_verdict_have_their_shape(finished):
    out, found, heard = finished
    assert {"plan.json", "trials.sqlite", "edits", "verdict.json"} <= {child.name for child in out.iterdir()}
    assert json.loads((out / "verdict.json").read_text())["claims"] == found.to_json()["claims"]
    for field in ("model", "dataset", "baseline", "ceiling", "random", "claimed", "seeds", "versions", "seconds"):
        assert field in found.to_json()
    (claim,) = found.claims
    assert (claim.name, claim.location, claim.n_sites, claim.read) == ("given", ("0.1", "2.3"), 2, "layer")
    for finding in claim.by_question.values():
        assert finding.standing in ("supported", "refuted", "undecided", "invalid")
        assert {"estimate", "interval", "p", "margin", "n", "n_random", "sentence"} <= set(finding.to_json())
    assert len(found.random) == 19 and len(found.claimed) == 1 and found.unfinished == 0
    assert found.claimed[0].measures["mc2"].n == 10
    (steered,) = found.shift_everywhere
    assert steered.name == "iti:everywhere" and steered.measures["mc2"].n == 10
    assert {blind.name for blind in found.baseline.blind}
    assert heard == sorted(heard) and heard[-1] == pytest.approx(1.0)
    assert not list(out.rglob(".*")), "no half-written file is left"


def test_every_edit_is_kept(finished):
    from locus.edits import load_edit

    out = finished[0]
    plan = json.loads((out / "plan.json").read_text())
    for trial in plan["trials"]:
        path = out / "edits" / f"{trial['id']}.safetensors"
        assert path.exists() == (trial["edit"] != "none")
        if path.exists() and trial["location"]:
            assert load_edit(path).location.names == trial["location"]


def test_again_is_instant_and_changes_nothing(finished, llama_folder):
    out, _, _ = finished
    before = Store(out / "trials.sqlite").dump()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "edits").iterdir()}
    audit(resolve("quick", model=llama_folder, **SMALL), out)
    assert Store(out / "trials.sqlite").dump() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "edits").iterdir()} == stamps


def test_a_sequential_run_stops_where_nothing_can_change_and_says_so(llama_folder, tmp_path):
    told = resolve("quick", model=llama_folder, **{**SMALL, "sequential": True})
    found = audit(told, tmp_path / "RUN")
    # A random model's ceiling has no effect on unseen questions: the first look ends it.
    assert {found.works.standing, found.special.standing} == {"invalid"}
    assert found.drawn.to_json() == {"random": 5, "planned": 19, "stopped_early": True}
    assert len(found.random) == 5 and found.unfinished == 0
    rows = Store(tmp_path / "RUN" / "trials.sqlite").dump()
    assert audit(told, tmp_path / "RUN").claims == found.claims
    assert Store(tmp_path / "RUN" / "trials.sqlite").dump() == rows, "what was skipped stays skipped"
    from locus.report.verify import verify

    verify(tmp_path / "RUN")


def test_another_configuration_is_refused_with_what_differs(finished, llama_folder):
    with pytest.raises(UserError, match=r"epochs: 1 there, 2 now"):
        audit(resolve("quick", model=llama_folder, **{**SMALL, "epochs": 2}), finished[0])


FEWER = {
    **SMALL,
    "random": 4,
    "alpha": 0.25,
    "bank": 2,
    "train": 8,
    "test": 6,
    "shift_random": 0,
    "judge": "blind",
    "max_new_tokens": 4,
}


def command(model, out):
    flags = ["--claim", "0.1,2.3", "--model", model, "--out", str(out)]
    for name, value in FEWER.items():
        if name != "claims":
            flags += ["--set", f"{name}={json.dumps(value)}"]
    return [sys.executable, "-m", "locus", "audit", *flags]


def everything(out):
    """All scores of a run, and all that was said in it."""
    store = Store(out / "trials.sqlite")
    return store.dump(), {trial.id: store.texts(trial.id, "test") for trial in store.trials()}


@pytest.mark.parametrize("slip", [["audit"], ["audit", "--modle", "x"], ["foo"], ["verify"], ["audit", "--random", "many"], []])
def test_a_slip_on_the_command_line_is_no_bug_of_ours(monkeypatch, capsys, slip):
    status, said = run_cli(monkeypatch, capsys, *slip)
    assert status == 2 and "bug" not in said and "Traceback" not in said


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_rows(llama_folder, tmp_path):
    """SIGKILL while it trains and speaks; each time it goes on; at the end the rows equal those of an undisturbed run."""
    rng = random.Random(4)
    started = time.monotonic()
    assert subprocess.run(command(llama_folder, tmp_path / "whole"), capture_output=True, check=False).returncode == 0
    whole = time.monotonic() - started
    expected, said = everything(tmp_path / "whole")
    kills, run, counts = 0, 0, [0]
    while kills < 4:
        out = tmp_path / f"RUN-{run}"
        process = subprocess.Popen(command(llama_folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.4, 0.95) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        texts = everything(out)[1] if (out / "trials.sqlite").exists() else {}
        assert all(len(one) == FEWER["test"] for one in texts.values()), "a trial is done without all it said"
        counts.append(len(texts))
        assert counts == sorted(counts), "a finished trial was lost"
        if process.returncode == 0:  # finished before it could be killed again: check it, and begin another
            assert everything(out) == (expected, said)
            run, counts, whole = run + 1, [0], 0.8 * whole  # the first run was slower: its cache was empty, its machine busier
    assert subprocess.run(command(llama_folder, tmp_path / f"RUN-{run}"), capture_output=True, check=False).returncode == 0
    assert everything(tmp_path / f"RUN-{run}") == (expected, said)


def run_cli(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["locus", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "./nowhere"], "a hub id, a model folder"),
        (["--data", "absent.jsonl"], "absent.jsonl"),
        (["--model", "planted:banana"], "planted:banana"),
        (["--random", "16"], "at least 19 random Locations"),
        (["--random", "16", "--alpha", "0.06"], None),
        (["--claim", "9.9"], "9.9"),
        (["--claim", "nobody knows"], "sites such as 12.3,14.0"),
        (["--preset", "huge"], "quick, standard, paper"),
        (["--set", "epoch=2"], "no setting 'epoch' (nearest: epochs"),
        (["--set", "epochs=0"], "epochs"),
        (["--set", "iti_strengths=[-1.0]"], "iti_strengths.0 = -1.0, where a number above 0 is expected"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--claim", "0.1", "--set", "null='layer'", "--random", "30"], "at least 19 places"),
    ],
)
def test_bad_input_is_one_message_and_status_2(monkeypatch, capsys, tmp_path, llama_folder, arguments, said):
    if said is None:
        resolve("quick", random=16, alpha=0.06)
        return
    model = [] if "--model" in arguments else ["--model", llama_folder]
    status, text = run_cli(monkeypatch, capsys, "audit", "--out", tmp_path / "RUN", *model, *arguments)
    assert status == 2 and "error:" in text and "expected" in text and "received" in text
    assert said in " ".join(text.split())
    assert not (tmp_path / "RUN").exists(), "nothing is written half"


def test_all_preconditions_are_reported_together(tmp_path, llama_folder):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "holiday.jpg").write_text("x")
    with pytest.raises(PreconditionsError) as caught:
        audit(resolve("quick", model=llama_folder, claims=("7.7",), random=3), tmp_path / "RUN")
    text = str(caught.value)
    assert "3 things to fix" in text and "7.7" in text and "at least 19" in text and "other files" in text


def test_wrong_names_are_said_before_torch_is_imported(tmp_path, llama_folder):
    (tmp_path / "wrong.csv").write_text("question,answer\nx,y\n")
    script = f"""
import sys
from pathlib import Path
from locus.plan.config import resolve
from locus.errors import PreconditionsError
from locus.plan.preconditions import early
told = dict(data={str(tmp_path / "wrong.csv")!r}, model={llama_folder!r}, claims=("9.9",), taus=())
try:
    early(resolve("quick", **told), Path({str(tmp_path / "RUN")!r}))
except PreconditionsError as error:
    print(error)
    print("torch" in sys.modules, "scipy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "3 things to fix" in done.stdout and done.stdout.endswith("False False\n")
    for part in ("'wrong.csv' without Question, Best Answer", "9.9", "one or more taus"):
        assert part in done.stdout


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_every_preset_fits_a_planted_model(preset, tmp_path):
    from locus.plan.preconditions import check

    told = resolve(preset, model="planted:localized", claims=("1.1",))
    assert len(check(told, tmp_path / "RUN").items) == 120 and told.singles < 24


def test_pickled_weights_are_refused(tmp_path):
    from locus.models.load import load

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="pickled"):
        load(str(tmp_path))


def test_an_architecture_without_output_projection_is_refused_by_what_was_looked_for():
    import torch

    from locus.models.model import Model

    class Odd(torch.nn.Linear):
        config = type("C", (), {"num_attention_heads": 2})()

        def get_input_embeddings(self):
            return None

    with pytest.raises(UserError, match="cannot read a few tokens"):
        Model(Odd(3, 3), None, "odd")


def test_flags_files_and_presets_say_the_same_things(tmp_path):
    (tmp_path / "a.toml").write_text('preset = "standard"\nrandom = 25\nclaims = ["1.2"]\n')
    found = resolve("quick", tmp_path / "a.toml", random=30)
    assert (found.preset, found.random, found.claims, found.claim_size) == ("standard", 30, ("1.2",), 8)
    assert resolve("paper").singles == 24 and resolve("paper").taus == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert AuditConfig(**resolve("quick").model_dump()) == resolve("quick")


def test_who_speaks_of_small_steps_has_them_and_else_edits_are_searched_for():
    plain, stepped, first = resolve("quick"), resolve("quick", epochs=3), resolve("quick", first=True)
    assert (plain.search, plain.taus, plain.metric, plain.rule) == ("newton", "auto", "margin", 4)
    assert (stepped.search, stepped.taus, stepped.metric, stepped.epochs) == ("adamw", (0.1,), "mc2", 3)
    assert (first.search, first.lr_multipliers, first.metric, first.rule) == ("adamw", (14.0,), "mc2", 3)
    assert resolve("paper").search == resolve("quick", model="planted:localized").search == "adamw"
    assert resolve("quick", objective="dpo").taus == (0.1,)
    with pytest.raises(UserError, match="which alone has a target; received taus = auto with objective = dpo"):
        early(resolve("quick", objective="dpo", taus="auto"))
    with pytest.raises(UserError, match="small steps; received batch, epochs"):
        resolve("quick", search="newton", epochs=3, batch=2)
    with pytest.raises(UserError, match="each under the 6 rounds of the whole search"):
        early(resolve("quick", lengths=(6,)))
    with pytest.raises(UserError, match="lengths of searches where edits are searched for by newton"):
        early(resolve("quick", epochs=1, lengths=(5,)))


def test_learning_rates_pass_through_the_papers_points():
    assert learning_rate(1) == pytest.approx(2e-3)
    assert learning_rate(16) == pytest.approx(5e-4)
    assert learning_rate(1024) == pytest.approx(1e-4, rel=0.01)
    assert learning_rate(4, 3.0) == pytest.approx(3e-3)


def test_ctrl_c_says_what_is_kept_and_exits_130(llama_folder, tmp_path):
    command = [sys.executable, "-m", "locus", "audit", "--model", llama_folder, "--out", str(tmp_path / "RUN")]
    command += ["--set", "sequential=false", "--set", "epochs=40", "--set", "text_passages=0"]
    # Where the tests run in the background of a shell, children are born deaf to SIGINT.
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=hear) as run:
        while not (tmp_path / "RUN" / "trials.sqlite").exists():
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert "the same command goes on" in said
    from locus.report.verify import verify

    with pytest.raises(UserError, match="not finished"):
        verify(tmp_path / "RUN")


def test_sizes_that_the_split_cannot_give_are_said(finished):
    assert finished[1].asked.to_json() == {name: SMALL[name] for name in ("train", "validation", "test")}
