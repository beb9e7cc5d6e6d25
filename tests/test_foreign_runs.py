"""A run folder that a stranger made opens nothing, runs nothing and connects to nothing; the user's own word leads through."""

import ast
import json
import os
import re
import shutil
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from locus.errors import UserError, VerificationError
from locus.models.load import load
from locus.plan import preconditions
from locus.plan.config import AuditConfig, resolve
from locus.records.store import Store
from locus.report import export, page
from locus.report.consent import NAMING, Given, settle
from locus.report.figures.plot import Drawing, save
from locus.report.lora import LIES
from locus.report.rerun import rerun, sentences
from locus.reproduce import settings
from tests.endpoint import Server
from tests.hostile import HUB, ROOT, forge, locus, pipe, trap_model, watched
from tests.small_run import let_speak

FIRST = Path(__file__).parent / "runs" / "first-edition"
OWN = {"data": "misconceptions", "text": "pydoc"}  # what the small run was really made of


@pytest.fixture(scope="module")
def traps(tmp_path_factory, llama_folder):
    """A folder of traps, and the mark that their code would leave."""
    place = tmp_path_factory.mktemp("traps")
    trap_model(place / "trap-model", llama_folder, place / "mark")
    for name in ("trap.jsonl", "trap.txt", "trap.safetensors", "trap-figures.json"):
        pipe(place / name)
    return place


@pytest.fixture(scope="module")
def server():
    with Server() as one:
        yield one


@pytest.fixture(scope="module")
def named(traps, server):
    """Settings of which every name is a trap."""
    return {
        "model": str(traps / "trap-model"),
        "trust_remote_code": True,
        "data": str(traps / "trap.jsonl"),
        "text": str(traps / "trap.txt"),
        "judge": "api:x",
        "judge_url": server.url,
        "judge_figures": str(traps / "trap-figures.json"),
    }


@pytest.fixture
def hostile(run_copy, named):
    """The small run of a tiny local model, forged to name traps, with scores of a judge."""
    return forged(run_copy, named)


def forged(run: Path, named: dict) -> Path:
    let_speak(run, {"claim": ["So it is."] * 6}, {"claim": [1.0] * 6})
    return forge(run, judged=True, **named)


def untouched(notes: Path, traps: Path, server: Server) -> None:
    """Nobody connected, started a process, ran the code, or so much as opened a trap."""
    assert not notes.exists() or notes.read_text() == ""
    assert server.log == [] and not (traps / "mark").exists()


@pytest.fixture(scope="module")
def commands(small_run, named, traps, llama_folder, tmp_path_factory):
    """Every command that reads a folder, by name, on a run whose plan names traps; and some on one that names a hub's."""
    place = tmp_path_factory.mktemp("runs")
    run, other = (forged(Path(shutil.copytree(small_run, place / name)), named) for name in ("RUN", "OTHER"))
    half = shutil.copytree(run, place / "HALF")
    for name in ("verdict.json", "receipt.json", "report.html"):
        (half / name).unlink()
    store = Store(half / "trials.sqlite")
    store.db.execute("DELETE FROM trials WHERE role IN ('complement', 'random')")
    store.close()
    patch = shutil.copytree(FIRST / "patch", place / "PATCH")
    found = json.loads((patch / "patch.json").read_text())
    found["model"]["name"] = found["config"]["model"] = str(traps / "trap-model")
    (patch / "patch.json").write_text(json.dumps(found))
    (patch / "parts").mkdir()
    pipe(patch / "parts" / "trap.npz")
    # A run of the first edition, which now names a hub's model and data, and weights of a judge that are a pipe.
    hub = shutil.copytree(FIRST / "planted", place / "HUB")
    judge = f"local:{traps / 'trap.safetensors'}"
    forge(hub, model=HUB, revision="main", data="truthfulqa", text="openwebtext", judge=judge, judged=True)
    own = ["--model", llama_folder]
    trial = ["--trial", "claim", "--to", str(place / "edit")]
    return {
        "verify": [str(run)],
        "report": [str(run)],
        "report --compare": [str(run), str(other)],
        "export --as scores": [str(run), "--to", str(place / "scores")],
        "reproduce": [str(run), "--out", str(place / "again"), "--size", "small"],
        "power": [str(run)],
        "audit": ["--out", str(half), *own],
        "audit --claim": [f"patch:{patch}", "--out", str(place / "new"), *own],
        "verify --rerun 1": [str(hub)],
        "export --as peft": [str(hub), *trial],
        "reproduce --size full": [str(hub), "--out", str(place / "again")],
        "export --trust-remote-code": [str(run), *trial, "--model", str(traps / "trap-model")],
    }


def test_every_command_that_reads_a_foreign_folder_touches_nothing(commands, traps, server):
    notes = traps.parent / "notes"
    listed = [[*name.split(), *arguments] for name, arguments in commands.items()]
    *found, trusted = watched(listed, notes, traps / "mark")
    for (name, _), (status, said, touched) in zip(commands.items(), found, strict=False):
        wanted = 0 if name.split()[0] in ("verify", "report", "power") or "scores" in name else 2
        assert status == (2 if "rerun" in name else wanted) and "Traceback" not in said, (name, said)
        assert not touched, (name, touched)
    for _, said, _ in found[-3:]:
        assert "would be downloaded from the hub" in " ".join(said.split()), said
    assert server.log == []
    # With the user's word for it the code runs; its class is another than the run's, and so is the fingerprint.
    assert trusted[0] == 2 and "with those weights" in " ".join(trusted[1].split()) and "marked" in trusted[2]
    (traps / "mark").unlink()


def test_repeating_and_exporting_a_foreign_run_says_what_would_have_been_done(hostile, traps, server, tmp_path):
    notes = tmp_path / "notes"
    repeated = locus(["verify", str(hostile), "--rerun", "1"], notes)
    said = " ".join(repeated.stderr.split())
    assert repeated.returncode == 2 and "Traceback" not in said, said
    assert "would be loaded, and Python code that comes with it run; data" in said and "Give --model, --data, --text" in said
    exported = locus(["export", str(hostile), "--trial", "claim", "--to", str(tmp_path / "out")], notes)
    assert exported.returncode == 2 and "Give --model if you trust it" in " ".join(exported.stderr.split())
    assert not (tmp_path / "out").exists()
    untouched(notes, traps, server)


def test_the_users_own_word_leads_through_and_the_judge_that_is_left_out_is_named(hostile, llama_folder, traps, server):
    found = rerun(hostile, 1, seed=1, given=Given(model=llama_folder, **OWN))
    assert found["judge"] == "api:x" and found["repeated"] and found["largest"]["mc2"] < 1e-3
    claim = next(trial["id"] for trial in json.loads((hostile / "plan.json").read_text())["trials"] if trial["role"] == "claim")
    seed = next(seed for seed in range(99) if claim in rerun_draw(hostile, seed))
    found = rerun(hostile, 1, seed=seed, given=Given(model=llama_folder, **OWN))
    assert found["unrepeated"] == ["info", "true_info", "truth"]
    assert "judge api:x was left out" in sentences(found)[1] and "not repeated were info, true_info, truth" in sentences(found)[1]
    assert server.log == [] and not (traps / "mark").exists()


def rerun_draw(run: Path, seed: int) -> list[str]:
    """The trials that a draw of one takes."""
    import numpy as np

    store = Store(run / "trials.sqlite")
    done = sorted(store.done())
    store.close()
    return np.random.default_rng(seed).choice(done, size=1, replace=False).tolist()


@pytest.mark.parametrize("part", ["model", "data", "text"])
def test_another_model_or_data_than_the_runs_is_refused_by_fingerprint(hostile, llama_folder, tmp_path, part):
    (tmp_path / "text.txt").write_text("\n\n".join("A passage of some words. " * 30 + str(n) for n in range(4)))
    other = {"model": "planted:localized:0", "data": "task:ioi", "text": str(tmp_path / "text.txt")}
    own = {"model": llama_folder, **OWN, part: other[part]}
    with pytest.raises(VerificationError, match=f"something else: {part}"):
        rerun(hostile, 1, given=Given(**own))


def test_a_judge_is_asked_only_where_the_user_says_and_only_if_it_is_the_runs(hostile, llama_folder, named, monkeypatch, server):
    from locus.judges.api import ApiJudge, Endpoint

    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-secret")
    monkeypatch.setenv("LOCUS_CACHE", str(hostile / ".cache"))
    with Server() as mine:
        given = Given(model=llama_folder, judge="api:x", judge_url=mine.url, **OWN)
        with pytest.raises(VerificationError, match="judge 'api:x' here is another than the run's"):
            rerun(hostile, 1, given=given)
        assert len(mine.log) == 1, "the question that everybody can answer, and nothing of the run"
        plan = json.loads((hostile / "plan.json").read_text())
        plan["judge"]["fingerprint"] = ApiJudge("x", Endpoint(mine.url), hostile / "replies").fingerprint
        (hostile / "plan.json").write_text(json.dumps(plan))
        # What the stranger has stored of a judge is not what this one says.
        with pytest.raises(VerificationError, match=r"truth|info"):
            rerun(hostile, len(plan["trials"]), given=given)
        assert mine.log and set(mine.keys) == {"Bearer sk-secret"}
    assert server.log == []


def test_stored_scores_that_no_repetition_gives_are_not_verified(run_copy, llama_folder):
    store = Store(run_copy / "trials.sqlite")
    store.db.execute("INSERT INTO scores SELECT trial, split, 'luck', item, 1.0, '' FROM scores WHERE measure = 'mc1'")
    store.close()
    with pytest.raises(VerificationError, match="luck, that its repetition does not give"):
        rerun(run_copy, 1, given=Given(model=llama_folder))


def test_a_foreign_run_is_exported_with_the_users_own_model_and_into_its_folder_alone(hostile, llama_folder, tmp_path):
    before = {path: path.read_bytes() for path in hostile.rglob("*") if path.is_file()}
    notes = export.export_edit(hostile, "claim", tmp_path / "out", given=Given(model=llama_folder))
    assert LIES.format(place=llama_folder) in notes
    export.export_scores(hostile, tmp_path / "scores")
    assert {path: path.read_bytes() for path in hostile.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"RUN", "out", "scores"}
    with pytest.raises(UserError, match=r"the model the run was made on, with fingerprint .* Give --model with those weights"):
        export.export_edit(hostile, "claim", tmp_path / "other", given=Given(model="planted:localized:0"))
    assert not (tmp_path / "other").exists()


def test_a_trial_cannot_name_a_file_outside_the_run(hostile, llama_folder, tmp_path):
    edit = next((hostile / "edits").iterdir())
    (tmp_path / "aim.safetensors").write_bytes(edit.read_bytes())
    given = Given(model=llama_folder)
    edit.unlink()
    edit.symlink_to(tmp_path / "aim.safetensors")
    with pytest.raises(UserError, match="an edit that is still there, as a regular file"):
        export.export_edit(hostile, edit.stem, tmp_path / "out", given=given)
    plan = json.loads((hostile / "plan.json").read_text())
    plan["trials"][1]["id"] = "../../aim"
    (hostile / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match=r"plan\.json that is whole"):
        export.export_edit(hostile, "../../aim", tmp_path / "out", given=given)
    assert not (tmp_path / "out").exists()


def test_what_is_written_into_a_foreign_folder_stays_there(run_copy, tmp_path):
    """A link where a file or a folder of ours belongs is replaced or refused, never followed."""
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "drawn").mkdir()
    drawn = [tmp_path / "drawn" / f"one.{ending}" for ending in ("svg", "pdf", "png", "csv")]
    pages = [run_copy / "report.html", run_copy / "cite.bib"]
    for path in (*drawn, *pages):
        path.unlink(missing_ok=True)
        path.symlink_to(mine)
    page.write(run_copy, figures=False)
    save(Drawing("one", ("x",), [(1.0,)], 1.0, lambda panels, rows: None), tmp_path / "drawn")
    assert mine.read_text() == "mine" and not any(path.is_symlink() for path in (*drawn, *pages))
    (tmp_path / "elsewhere").mkdir()
    (run_copy / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="a folder of its own"):
        page.write(run_copy)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_store_that_is_a_pipe_or_a_link_is_not_opened(tmp_path, suffix):
    Store(tmp_path / "trials.sqlite").close()
    part = tmp_path / f"trials.sqlite{suffix}"
    part.unlink(missing_ok=True)
    os.mkfifo(part)
    with pytest.raises(UserError, match="no regular file"):
        Store(tmp_path / "trials.sqlite")
    part.unlink()
    part.symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="no regular file"):
        Store(tmp_path / "trials.sqlite")
    assert not (tmp_path / "mine").exists()


def test_a_plan_with_the_right_hash_and_other_trials_is_not_gone_on_with(run_copy):
    from locus.audit import audit

    plan = json.loads((run_copy / "plan.json").read_text())
    plan["trials"][0]["arm"] = "another"
    (run_copy / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match="another one: trials differ"):
        audit(AuditConfig.recorded(plan["config"]), run_copy)


def test_a_models_own_code_is_not_run_and_nobody_is_asked_on_the_terminal(traps, llama_folder, tmp_path, monkeypatch):
    place, mark = str(traps / "trap-model"), traps / "mark"

    def asked(*args):
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    config = resolve("quick", model=place, claims=("0.1",), random=4, alpha=0.25)
    refusal = r"Python code of its own, 'trap\.py \(auto_map in config\.json\)'.*which would be run.*--trust-remote-code"
    for attempt in (lambda: load(place), lambda: preconditions.check(config, tmp_path / "out")):
        with pytest.raises(UserError, match=refusal):
            attempt()
    assert not mark.exists()
    # Code of the tokenizer alone, beside a model that transformers knows: of a kind that it knows, and of one that it does not.
    known = shutil.copytree(llama_folder, tmp_path / "known")
    shutil.copy(traps / "trap-model" / "tokenizer_config.json", known)
    shutil.copy(traps / "trap-model" / "trap.py", known)
    with pytest.raises(UserError, match=r"'trap\.py \(auto_map in tokenizer_config\.json\)', which would be run"):
        load(str(known))
    content = json.loads((known / "tokenizer_config.json").read_text())
    (known / "tokenizer_config.json").write_text(json.dumps(content | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert load(str(known), device="cpu").fingerprint == load(llama_folder, device="cpu").fingerprint
    assert not mark.exists()


def test_transformers_is_always_told_whether_code_may_run():
    """Where it is not told, it asks on the terminal: also beside a GGUF file, whose folder may hold a tokenizer's code."""
    calls = []
    for path in (ROOT / "locus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.fullmatch(r"Auto\w+\.from_pretrained", ast.unparse(node.func)):
                calls.append((path.name, node.lineno, any(one.arg == "trust_remote_code" for one in node.keywords)))
    assert len(calls) >= 4 and not [call for call in calls if not call[2]]


def test_a_models_own_code_is_named_before_it_is_run(run_copy, traps):
    forge(run_copy, model=str(traps / "trap-model"), trust_remote_code=True)
    asked = (
        r"trap\.py \(auto_map in config\.json\).*which comes with the model's folder and would be run.*Give --trust-remote-code"
    )
    with pytest.raises(UserError, match=asked):
        rerun(run_copy, 1, given=Given(model=str(traps / "trap-model"), **OWN))
    assert not (traps / "mark").exists()


def broken_parts(path: Path) -> list[bytes]:
    """What is no finished batch of a patching run."""
    import io

    import numpy as np

    found = []
    for values in ({"clean": np.ones(2)}, dict.fromkeys(("clean", "corrupted", "patched"), np.array(["x"]))):
        packed = io.BytesIO()
        np.savez(packed, **values)
        found.append(packed.getvalue())
    return [b"", b"PK\x03\x04 and no more", found[0][:-40], *found]


def test_a_patching_run_is_gone_on_with_only_where_its_files_are_what_they_should_be(tmp_path):
    from locus.patching import folder
    from locus.patching.settings import PatchConfig

    config, out = PatchConfig(), tmp_path / "out"
    assert folder.begin(config, out) is None
    path = out / "parts" / "0.npz"
    path.parent.mkdir()
    for content in broken_parts(path):
        path.write_bytes(content)
        with pytest.raises(UserError, match="the batch is run again"):
            folder._read_batch(path, out)
    path.unlink()
    for name, wanted in (("parts/0.npz", "a finished batch"), ("patch.json", "patch.json"), ("config.json", "settings")):
        (out / name).unlink(missing_ok=True)
        pipe(out / name)
        with pytest.raises(UserError, match=f"{wanted}.*no regular file"):
            folder._read_batch(out / name, out) if "parts" in name else folder.begin(config, out)
    (out / "config.json").unlink()
    (out / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested deeper"):
        folder.begin(config, out)


BUILT_IN = [
    {"model": "smollm2-135m-instruct"},
    {"model": "planted:localized:3"},
    {"model": "planted:redundant:12:shuffled"},
    {"data": "task:ioi:100:2"},
    {"data": "planted:decoy:1"},
    {"judge": "local"},
    {"judge": "blind"},
]
FOREIGN = [
    {"model": HUB},
    {"model": "./smollm2-135m-instruct"},
    {"model": "planted:localized:3/../../x"},
    {"model": f"planted:localized:{'9' * 5000}"},
    {"data": "truthfulqa"},
    {"data": "truthfulqa:/etc/passwd"},
    {"data": "task:ioi:100000000"},
    {"data": "misconceptions\n"},
    {"text": "openwebtext"},
    {"text": "pydoc/../x"},
    {"judge": "local:/x"},
    {"judge": "lm:x"},
    {"judge": "api:x"},
]


@pytest.mark.parametrize("part", BUILT_IN, ids=str)
def test_what_comes_with_the_package_needs_no_word(part):
    config = settle({**AuditConfig().model_dump(mode="json"), **part}, Given())
    assert {name: getattr(config, name) for name in part} == part


@pytest.mark.parametrize("part", FOREIGN, ids=lambda part: str(part)[:40])
def test_every_other_name_needs_the_users_word(part):
    with pytest.raises(UserError, match=f"Give --{next(iter(part))} if you trust it"):
        settle({**AuditConfig().model_dump(mode="json"), **part}, Given())


def test_all_that_is_lacking_is_said_in_one_sentence_and_nothing_of_it_is_left_in_the_settings():
    hostile = {"model": HUB, "data": "/a.jsonl", "text": "/a.txt", "judge": "api:x", "judge_url": "http://a/\x1b[2J"}
    hostile |= {"judge_figures": "/a.json", "claims": ("/a.npy",), "device": "cuda:7", "trust_remote_code": True}
    recorded = {**AuditConfig().model_dump(mode="json"), **hostile}
    with pytest.raises(UserError) as caught:
        settle(recorded, Given())
    assert "Give --model, --data, --text, --judge if you trust it" in str(caught.value)
    assert "\x1b" not in str(caught.value) and "with your key" in str(caught.value)
    own = settle(recorded, Given(model="planted:localized:0", **OWN, judge="none"))
    assert (own.claims, own.device, own.trust_remote_code) == (("probe",), "auto", False)
    assert not own.judge_url and not own.judge_figures and not own.revision


def test_a_revision_counts_only_as_a_commit_of_a_model_that_the_user_gave_and_runs_no_code():
    commit = "0123456789abcdef" * 2 + "01234567"
    recorded = {**AuditConfig().model_dump(mode="json"), "model": HUB}

    def revision(named, **given):
        return settle({**recorded, "revision": named}, Given(model=HUB, **given)).revision

    assert revision(commit) == commit and revision(None) is None and revision("main", revision="v1") == "v1"
    for named, given in (("main", {}), (commit[:-1], {}), (commit.upper(), {}), (commit, {"trust_remote_code": True})):
        with pytest.raises(UserError, match="Give --revision"):
            revision(named, **given)


def test_every_setting_that_can_hold_any_text_is_one_that_a_plan_may_not_choose():
    """A setting that is new and could name a file or an address has to be thought of here."""

    def free(kind):
        return kind is str or (get_origin(kind) is not Literal and any(map(free, get_args(kind))))

    texts = {name for name, field in AuditConfig.model_fields.items() if free(field.annotation)}
    # Variables of a template are texts and numbers that a template without access to anything reads.
    assert texts - {"preset", "template_variables"} == NAMING - {"trust_remote_code"}


def test_a_study_names_no_claim_outside_its_folder(run_copy, llama_folder, tmp_path):
    (tmp_path / "heads.json").write_text('["0.1"]')
    for claim in (str(tmp_path / "heads.json"), f"patch:{tmp_path}", "../heads.json"):
        content = json.loads((run_copy / "receipt.json").read_text())
        content["body"]["config"]["claims"] = [claim]
        (run_copy / "receipt.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="claims that 'RUN' brings with it"):
            settings(run_copy, Given(model=llama_folder))
    shutil.copy(tmp_path / "heads.json", run_copy)
    content["body"]["config"]["claims"] = [str(tmp_path / "heads.json")]
    (run_copy / "receipt.json").write_text(json.dumps(content))
    assert settings(run_copy, Given(model=llama_folder)).claims == (str(run_copy / "heads.json"),)


@pytest.mark.parametrize("broken", ["no numbers", "mc2 = -1", "mc2 = nan", "luck = 1"])
def test_a_studys_tolerance_is_numbers(tmp_path, broken):
    from locus.reproduce import TOLERANCE, tolerance

    assert tolerance(tmp_path) == TOLERANCE
    (tmp_path / "tolerance.toml").write_text(broken)
    with pytest.raises(UserError, match="a number for each measure"):
        tolerance(tmp_path)
