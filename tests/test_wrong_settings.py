"""Whatever a user gives to a command and is no such thing ends with status 2 and one sentence, and nothing is left behind."""

import contextlib
import json
import math
import os
import sys

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import BaseModel

from locus.boundary import outputs, settings
from locus.calibrate import power
from locus.claims import given as given_claim
from locus.cli import app as cli
from locus.errors import UserError, of_place
from locus.patching import settings as patching
from locus.patching.settings import PatchConfig
from locus.plan import config
from locus.plan.config import AuditConfig

MODEL = ("--model", "planted:localized:0")
SURROGATE = os.fsdecode(b"\xff\xfe")  # a name that is not UTF-8


@pytest.fixture
def locus(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder full of things that are not what is asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")

    def run(*arguments, clean=True):
        monkeypatch.setattr(sys, "argv", ["locus", *arguments])
        before = contents(tmp_path)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr().err
        assert "Traceback" not in said and "is a bug" not in said, said
        assert not clean or contents(tmp_path) == before, "something was left behind"
        return caught.value.code, said

    return run


def contents(folder):
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def refused(status_and_said):
    status, said = status_and_said
    assert status == 2 and len(said) < 1500, (status, said)
    return said


SETTINGS = [
    "lr_multipliers=[nan]", "lr_multipliers=[inf]", "lr_multipliers=[-1.0]", "lr_multipliers=[0.0]", "lr_multipliers=[1e300]",
    "lr_multipliers=[]",
    "iti_strengths=[inf]", "iti_strengths=[nan]", "taus=[1e-320]", "taus=[]", "taus=0.1",
    "seed=18446744073709551616", "seed=9007199254740992",
    "seed=-1", "seed=true", "seed=1.5", 'seed="3"', "seed=nan", f"seed={'9' * 4000}", f"seed={'9' * 5000}",
    "epochs=1000000000000", "batch=9223372036854775807", "random=1000000000", "seeds=100000", "train=99999999999999999999",
    "tokens=0", "text_tokens=99999999999999999999", "max_new_tokens=99999999999", "temperature=inf", "temperature=1e-320",
    "top_p=nan", "judge_cap=nan", "judge_prices=[nan, 1.0]", "judge_prices=[-1.0, 1.0]", "judge_prices=[1.0]", "alpha=nan",
    "alpha=1e-300", "margin=nan", "trust_remote_code=1", "claims=3", "claims=[3]", 'claims=["a\\u0000b"]', 'data="\\u0000.jsonl"',
    "dtype=half", "reads=[]", 'reads=["all"]', "full_forms=[]", "preset=slow", "preset=[1]", "file=1", "learning_rate=1",
    "seed", "=1", "a.b=1", "seed=1\nepochs=2", "seed=[1", "seed=", 'text="', f"text={'[' * 20_000}", f"text={SURROGATE}",
    "train=1000-01-01", "train={a=1}",
]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: ascii(setting[:40]))
def test_a_wrong_setting_of_an_audit_is_refused(setting, locus):
    assert "expected" in refused(locus("audit", *MODEL, "--out", "RUN", "--set", setting))


def test_a_setting_given_twice_and_too_many_trials_are_refused(locus):
    assert "each name once" in refused(locus("audit", *MODEL, "--out", "RUN", "--set", "seed=1", "--set", "seed=2"))
    many = ("--set", "seeds=1000", "--set", "random=100000")
    assert "at most 1,000,000 trials" in refused(locus("audit", *MODEL, "--out", "RUN", *many))


@pytest.mark.parametrize(
    "setting",
    ["nu=nan", "nu=1e300", "seed=9007199254740992", "windows=[0]", "windows=[-1]", "draws=0", "flips=99999999999", "alpha=nan",
     "least=inf", "pairs=true", "corruptions=[]", 'metrics=["kl", "kl"]', "compare=[", "file=1", "least_right=nan", "steps=-1"],
)  # fmt: skip
def test_a_wrong_setting_of_patching_is_refused(setting, locus):
    assert "expected" in refused(locus("patch", *MODEL, "--out", "MAP", "--set", setting))


TOML = {
    "twice.toml": b"seed = 1\nseed = 2", "nan.toml": b"alpha = nan", "bytes.toml": b"\xff", "deep.toml": b"a = " + b"[" * 50_000,
    "digits.toml": b"seed = " + b"9" * 5000, "table.toml": b"[seed]\na = 1", "large.toml": b"#" * (2 << 20),
    "nul.toml": b'text = "a\\u0000b"',
}  # fmt: skip


@pytest.mark.parametrize("name", [*TOML, "dir", "fifo", "dangling", "missing", "/dev/zero", SURROGATE], ids=ascii)
def test_a_file_of_settings_is_read_strictly(name, locus, tmp_path):
    if name in TOML:
        (tmp_path / name).write_bytes(TOML[name])
    for command in (("audit", *MODEL, "--out", "RUN"), ("patch", "--out", "MAP"), ("claims", *MODEL)):
        assert "expected" in refused(locus(*command, "--config", name))


PLACES = ["dangling", "file/x", "fifo", "/dev/null", "/dev/null/x", "a" * 300, "dangling/x"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, locus, tmp_path):
    (tmp_path / "labels.csv").write_text("question,answer,truthful,informative\na,b,yes,yes\n")
    folders = [
        ("audit", *MODEL, "--out", place),
        ("patch", "--out", place),
        ("calibrate", "--draws", "1", "--out", place),
        ("judge", "eval", "--labels", "labels.csv", "--judge", "blind", "--out", place),
    ]
    files = [
        ("claims", *MODEL, "--save", place),
        ("power", "--out", place),
        ("judge", "train", "--labels", "labels.csv", "--references", "labels.csv", "--out", place),
    ]
    for command in (*folders, *files):
        assert "--" in refused(locus(*command))


def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused(locus):
    for command in ("audit", "patch", "calibrate"):
        assert "which is a file" in refused(locus(command, "--out", "file"))
    for command in (("claims", *MODEL, "--save"), ("power", "--out")):
        assert "no regular file" in refused(locus(*command, "dir"))


def test_a_good_place_passes_and_a_folder_without_rights_does_not(tmp_path, monkeypatch):
    outputs.check_folder(tmp_path / "new" / "deep")
    outputs.check_file(tmp_path / "new.json")
    (tmp_path / "link").symlink_to(tmp_path)
    outputs.check_folder(tmp_path / "link")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    for check, place in ((outputs.check_folder, "new/deep"), (outputs.check_file, "new.json"), (outputs.check_folder, ".")):
        with pytest.raises(UserError, match="can be written"):
            check(tmp_path / place)


@pytest.mark.parametrize("name", ["LOCUS_CACHE", "LOCUS_CONFIG"])
@pytest.mark.parametrize("value", ["file", "file/x", "/dev/null", "dangling", "", "a" * 300])
def test_a_folder_of_the_environment_that_is_none_is_refused(name, value, locus, monkeypatch):
    monkeypatch.setenv(name, value)
    assert name in refused(locus("doctor", "--empty-cache"))


@pytest.mark.parametrize("value", ["abc", "nan", "-1", "inf", "", "1e300"])
def test_a_wrong_size_of_the_cache_is_refused(value, locus, monkeypatch):
    monkeypatch.setenv("LOCUS_CACHE_GB", value)
    assert "LOCUS_CACHE_GB" in refused(locus("doctor", "--empty-cache"))


DATA = [
    "", "dir", "file", "fifo", "dangling", "dangling.jsonl", "missing.jsonl", "truthfulqa:", "truthfulqa:dir", "task:", "task:x",
    "task:ioi:0", "task:ioi:-1", "task:ioi:999999999999", f"task:ioi:5:{'9' * 5000}", "planted:", "planted:x",
    "planted:localized:-1", "planted:localized:nan", f"planted:localized:{'9' * 5000}", "planted:localized:99999999999999999999",
    "/dev/null", f"{SURROGATE}.jsonl", f"{'a' * 300}.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("data", DATA, ids=lambda data: ascii(data[:40]))
def test_data_that_are_none_are_refused(data, locus):
    assert "expected" in refused(locus("audit", *MODEL, "--data", data, "--out", "RUN"))


NUMBERS = {
    "--random": ["nan", "0", "-1", "9" * 20, ""],
    "--questions": ["0", "1", "-1", "9" * 20],
    "--effect": ["nan", "inf", "1e300", ""],
    "--noise": ["nan", "inf", "-1", "1e5"],
    "--seeds": ["0", "-1", "9" * 20],
    "--alpha": ["nan", "0", "1", "-1", "1e-300"],
    "--want": ["nan", "0", "1", "2", "1e-9"],
    "--claims": ["0", "-1", "9" * 20],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in NUMBERS.items() for value in values])
def test_power_refuses_what_no_audit_can_have(option, value, locus):
    refused(locus("power", option, value))


@pytest.mark.parametrize(
    "arguments",
    [("--kinds", "nonsense"), ("--kinds", ""), ("--kinds", "localized,localized"), ("--draws", "0"), ("--draws", "-1"),
     ("--draws", "999999999"), ("--alpha", "nan"), ("--margin", "nan"), ("--random", "-1"), ("--workers", "-1"),
     ("--workers", "0"), ("--workers", "99999999")],
)  # fmt: skip
def test_calibrate_refuses_wrong_options_before_it_makes_a_folder(arguments, locus):
    assert "expected" in refused(
        locus("calibrate", "--out", "CAL", *(("--draws", "1") if "--draws" not in arguments else ()), *arguments)
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [("settings.json", '{"alpha": NaN}'), ("settings.json", "[" * 9999), ("draws.jsonl", "{}\n"), ("draws.jsonl", "[[\n"),
     ("draws.jsonl", "3\n"), ("draws.jsonl", "\x00\n")],
)  # fmt: skip
def test_a_folder_of_a_calibration_that_is_none_is_refused(name, content, tmp_path):
    from locus.calibrate.table import calibrate

    (tmp_path / "settings.json").write_text('{"alpha": 0.05, "margin": 0.25, "random": 19}')
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError):
        calibrate(tmp_path, draws=1)


@pytest.mark.parametrize(
    "content",
    ['{"rows": 3}', '{"rows": [{"metric": "mc2"}]}', '{"rows": [], "settings": {"alpha": 0.05}, "rank_p": {}}', "[]", '"rows"',
     "{", "NaN", "[" * 9999, '{"effects": [1], "curve": {"19": [1, 2]}, "want": "x"}'],
)  # fmt: skip
def test_report_refuses_a_file_that_nothing_here_wrote(content, locus, tmp_path):
    (tmp_path / "x.json").write_text(content)
    # The folder of figures is made before what is drawn turns out to be nothing.
    assert "expected" in refused(locus("report", "x.json", clean=False))


def test_export_and_report_refuse_what_is_no_run(locus):
    for run in ("file", "dir", "fifo", "dangling", "full", "missing", "/dev/null", "a" * 300, SURROGATE):
        assert "expected" in refused(locus("export", run, "--to", "OUT"))
        assert "expected" in refused(locus("report", run))
    refused(locus("verify", "full", "--rerun", "-1"))
    refused(locus("verify", "full", "--rerun", "1", "--seed", "-1"))
    refused(locus("claims", *MODEL, "--top", "0"))


def test_references_without_answers_are_refused(locus, tmp_path):
    (tmp_path / "labels.csv").write_text("question,answer,truthful,informative\na,b,yes,yes\n")
    (tmp_path / "ref.csv").write_text("Question,Category,Best Answer,Correct Answers,Incorrect Answers\na,x,,,\n")
    train = ("judge", "train", "--labels", "labels.csv", "--references", "ref.csv", "--out", "w.safetensors")
    assert "rows 2 without" in refused(locus(*train))
    refused(locus(*train, "--seed", "-1"))


def test_truth_is_read_as_toml_and_as_python_has_it():
    for word, value in (("true", True), ("True", True), ("false", False), ("False", False)):
        assert config.resolve(**settings.from_flags([f"sequential={word}"])).sequential is value
    for word in ("1", "yes", '"true"', "TRUE"):
        with pytest.raises(UserError, match="valid boolean"):
            config.resolve(**settings.from_flags([f"sequential={word}"]))


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = JUNK | st.lists(JUNK, max_size=3) | st.dictionaries(st.text(max_size=3), JUNK, max_size=2)


@pytest.mark.parametrize("kind", [AuditConfig, PatchConfig, power.Asked])
@examples(max_examples=150)
@given(data=st.data())
def test_a_configuration_holds_nothing_that_is_not_finite_bounded_and_writable(kind, data):
    told = data.draw(st.dictionaries(st.sampled_from(sorted(kind.model_fields)), VALUES, max_size=3))
    try:
        made = settings.build(kind, told, "settings", "Mend them.")
    except UserError:
        return
    assert isinstance(made, BaseModel)
    content = json.dumps(made.model_dump(mode="json"), allow_nan=False, ensure_ascii=False).encode()
    assert kind(**json.loads(content)) == made
    for name, value in made.model_dump().items():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, int | float):
                assert math.isfinite(part) and abs(part) <= (settings.SEED if name == "seed" else settings.SIZE)


@examples(max_examples=200)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_flag_is_a_setting_or_refused(name, value):
    for text in (f"{name}={value}", f"seed={value}", name):
        try:
            told = settings.from_flags([text])
        except UserError:
            continue
        assert len(told) == 1
        for resolve in (config.resolve, patching.resolve):
            with contextlib.suppress(UserError):
                resolve(**told)


def test_the_largest_seed_starts_an_edit():
    import torch

    from locus.edits.rank1 import Rank1
    from tests.families import tiny

    layout, place = tiny("llama").layout, given_claim("0.1").location
    assert not torch.equal(Rank1(layout, place, seed=settings.SEED).flat, Rank1(layout, place, seed=settings.SEED - 1).flat)


def test_what_the_system_refuses_is_a_sentence_and_what_is_ours_is_not():
    with pytest.raises(IsADirectoryError) as caught:
        os.open("/", os.O_WRONLY)
    assert "'/' (Is a directory)" in str(of_place(caught.value))
    assert of_place(OSError(22, "Invalid argument", "x")) is None
    assert of_place(FileNotFoundError(2, "No such file", os.path.join(os.path.dirname(cli.__file__), "gone.json"))) is None
