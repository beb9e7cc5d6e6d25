"""One file adds one of each kind: it is found by its name, runs in a real audit, and stands in the verdict and on the page."""

import json
import re
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

import locus
from locus import behaviours, registry
from locus.audit import audit
from locus.cli.app import app, main
from locus.errors import PreconditionsError, UserError
from locus.plan.config import resolve
from locus.report.consent import Given, settle
from locus.report.page import write
from locus.report.verify import verify
from tests.toys.executor import USED

SMALL = {
    "sequential": False,
    "claims": ("0.1",),
    "claim_size": 1,
    "train": 8,
    "validation": 4,
    "test": 6,
    "epochs": 1,
    "random": 4,
    "alpha": 0.25,
    "text_passages": 0,
    "shift_random": 1,
}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is known to that test alone."""
    monkeypatch.setattr(registry, "_registered", {})
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


def audited(out, **settings):
    """A small audit of a planted model; its verdict, its page, and its receipt holding."""
    config = resolve("quick", **{"model": "planted:localized:0", **SMALL, **settings})
    found = audit(config, out, sign=False)
    assert found.unfinished == 0 and verify(out).kind == "run"
    return found, (out / "report.html").read_text()


def rows(out):
    from locus.records.store import Store

    store = Store(out / "trials.sqlite")
    found = store.dump()
    store.close()
    return found


def edits(out):
    found = {}
    for path in sorted((out / "edits").iterdir()):
        with safe_open(path, framework="numpy") as file:
            found[path.name] = file.metadata(), {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
    return found


def test_a_metric_decides_a_verdict(tmp_path):
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    found, page = audited(tmp_path / "RUN", metric="above")
    assert found.metric == "above" and found.claimed[0].measures["above"].n == 6
    assert "Above" in page and "answers above the mean of the unwanted ones" in page
    assert " answers" in found.claims[0].works.sentence, "differences are in its own unit"


def test_a_repetition_imports_what_the_user_allows(tmp_path):
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    audited(tmp_path / "RUN", metric="above")
    with pytest.raises(UserError, match="metrics:above"):
        locus.verify(tmp_path / "RUN", rerun=1, progress=False)
    again = locus.verify(tmp_path / "RUN", rerun=1, seed=0, own=["metrics:above"], progress=False)
    assert "above" in again.repeated["largest"]


def test_a_metric_beside_the_main_one_is_reported(tmp_path):
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    found, page = audited(tmp_path / "RUN", metrics=("above",))
    assert "above" in found.claims[0].by_metric and found.metric == "mc2" and "Above" in page


def test_who_lacks_the_metric_of_a_whole_run_is_told_what_to_install(tmp_path, monkeypatch):
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    audited(tmp_path / "RUN", metrics=("above",))
    monkeypatch.setattr(registry, "_registered", {})
    for read in (locus.verify, locus.open_run):
        with pytest.raises(UserError, match=r"none called metrics:above\. Install the package"):
            read(tmp_path / "RUN")


def test_an_edit_is_trained_at_every_place_and_another_is_tried_beside_it(tmp_path):
    registry.register("edits", "nudge", "tests.toys.edit:NUDGE")
    registry.register("edits", "halve", "tests.toys.edit:HALVE")
    found, page = audited(tmp_path / "RUN", edit="nudge", steering=("shift", "halve"))
    trials = json.loads((tmp_path / "RUN" / "plan.json").read_text())["trials"]
    made = {role: {one["edit"] for one in trials if one["role"] == role} for role in ("claim", "random", "ceiling", "complement")}
    assert set(map(tuple, made.values())) == {("nudge",)}
    assert [one.name for one in found.shift] == ["iti:given", "halve:given"]
    assert "halve at given" in page and "ITI at given" in page
    said = page.replace("<bdi>", "").replace("</bdi>", "")
    assert "The optimal nudge edit" in said and "ITI and halve by strength" in said
    write(tmp_path / "RUN", sign=False)
    drawn = (tmp_path / "RUN" / "figures" / "mc-scores.csv").read_text()
    assert "halve at the claim" in drawn and "ITI at the claim" in drawn


def test_a_heuristic_makes_a_claim(tmp_path):
    registry.register("claims", "loudest", "tests.toys.claim:loudest")
    assert "loudest would find" in repr(locus.plan("planted:localized:0", claim="loudest", claim_size=1, progress=False))
    found, page = audited(tmp_path / "RUN", claims=("loudest", "probe"), random=7)
    assert [one.origin for one in found.claims] == ["loudest", "probe"] and "loudest" in page


def test_a_judge_judges(tmp_path):
    registry.register("judges", "brief", "tests.toys.judge:JUDGE")
    found, page = audited(tmp_path / "RUN", judge="brief", max_new_tokens=2)
    assert found.judge.name == "brief" and found.metric == "wanted" and "brief" in page
    with pytest.raises(UserError, match="a judge"):
        audited(tmp_path / "OTHER", judge="brief:x")


def test_a_behaviour_and_a_source_of_models(tmp_path):
    registry.register("behaviours", "backwards", "tests.toys.behaviour:backwards")
    registry.register("models", "grown", "tests.toys.model:grown")
    found, page = audited(tmp_path / "RUN", model="grown:1", data="backwards:1", prompt="bare")
    assert found.model.name == "grown:1" and found.dataset.name == "backwards"
    assert "grown:1" in page and "backwards" in page


def test_executors_give_the_same_bits(tmp_path):
    registry.register("executors", "backwards", "tests.toys.executor:Backwards")
    USED.clear()
    runs = {name: tmp_path / name for name in ("serial", "fork", "backwards")}
    for name, out in runs.items():
        audited(out, executor=name)
    plans = [(out / "plan.json").read_bytes() for out in runs.values()]
    assert USED and plans[0] == plans[1] == plans[2], "no plan says who ran it"
    assert rows(runs["serial"]) == rows(runs["fork"]) == rows(runs["backwards"])
    assert edits(runs["serial"]) == edits(runs["fork"]) == edits(runs["backwards"])


WRONG = [
    ({"metric": "mc_2"}, "Did you mean 'mc2'"),
    ({"metric": "kl"}, "of which more is better"),
    ({"metrics": ("marginn",)}, "Did you mean 'margin'"),
    ({"edit": "rank2"}, "Did you mean 'rank1'"),
    ({"edit": "shift"}, "trained at any place"),
    ({"steering": ("rank1",)}, "not trained"),
    ({"executor": "frok"}, "Did you mean 'fork'"),
    ({"judge": "locale"}, "Did you mean 'local'"),
    ({"claims": ("prob",)}, "Did you mean 'probe'"),
]


@pytest.mark.parametrize(("setting", "said"), WRONG, ids=lambda one: str(one)[:30])
def test_an_unknown_name_suggests_the_nearest(tmp_path, setting, said):
    with pytest.raises((UserError, PreconditionsError), match=said):
        audited(tmp_path / "RUN", **setting)
    assert not (tmp_path / "RUN").exists()


@pytest.mark.parametrize(("setting", "kind"), [("metric", "metrics"), ("edit", "edits")])
def test_a_plan_chooses_nothing_that_somebody_registered(setting, kind):
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    registry.register("edits", "nudge", "tests.toys.edit:NUDGE")
    name = {"metrics": "above", "edits": "nudge"}[kind]
    recorded = resolve("quick", model="planted:localized:0", **{setting: name}).model_dump(mode="json")
    with pytest.raises(UserError, match="Give --own if you trust it"):
        settle(recorded, Given())
    assert getattr(settle(recorded, Given(own=(f"{kind}:{name}",))), setting) == name


def test_a_name_is_taken_once():
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    registry.register("metrics", "above", "tests.toys.metric:METRIC")
    for name in ("above", "mc1"):
        with pytest.raises(UserError, match="not taken"):
            registry.register("metrics", name, "elsewhere:METRIC")
    with pytest.raises(UserError, match="Did you mean 'metrics'"):
        registry.register("metric", "x", "a:b")


DOCS = Path(__file__).parents[1] / "docs"
(LEAD,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "extending.md").read_text(), re.M | re.S)
RUNNER = CliRunner()


@pytest.fixture
def lead(tmp_path):
    """A file of the user's own, which no import path leads to; forgotten afterwards."""
    path = tmp_path / "leadership.py"
    path.write_text(LEAD)
    yield path
    sys.modules.pop(path.stem, None)


def test_a_command_knows_what_a_file_registers_that_its_user_names(lead, monkeypatch):
    """The script of docs/extending.md, which run by itself would audit."""
    monkeypatch.setenv("LOCUS_IMPORT", str(lead))
    assert " lead " not in RUNNER.invoke(app, ["list", "metrics"]).stdout, "the user of this command names it, nobody else"
    asked = ["plan", "--model", "planted:localized:3", "--claim", "1.1", "--metric", "lead"]
    assert "one of mc1" in str(RUNNER.invoke(app, asked).exception)
    done = RUNNER.invoke(app, ["--import", str(lead), *asked])
    assert done.exit_code == 0 and "Plan: " in done.stdout
    assert " lead " in RUNNER.invoke(app, ["--import", str(lead), "list", "metrics"]).stdout


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mine.txt", LEAD, "a Python file to import"),
        ("nowhere.py", None, "a Python file to import"),
        ("statistics.py", LEAD, "Rename it"),
        ("broken.py", "1 / 0", r"broken.py' \(ZeroDivisionError: division by zero\)"),
        ("torn.py", "def", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused(name, text, said, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    done = RUNNER.invoke(app, ["--import", str(tmp_path / name), "list", "metrics"])
    assert isinstance(done.exception, UserError) and re.search(said, str(done.exception))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with its dist-info, as pip leaves it, on the path."""
    place = tmp_path / "site"
    about = place / "toy_locus-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-locus\nVersion: 1.0\n")
    points = {"locus.behaviours": "two = toy_locus:two", "locus.metrics": "mc1 = toy_locus:stolen"}
    (about / "entry_points.txt").write_text("".join(f"[{group}]\n{line}\n" for group, line in points.items()))
    (place / "toy_locus.py").write_text(
        "from locus.behaviours.items import Dataset, Item\n"
        "def two(name):\n"
        "    return Dataset(name, tuple(Item(f'q{n}', f'g{n}', f'Q{n}?', ('a',), ('b',), 'a') for n in range(2)))\n"
    )
    monkeypatch.syspath_prepend(str(place))
    invalidate_caches()
    registry._installed.cache_clear()
    yield place
    sys.modules.pop("toy_locus", None)


def test_an_installed_package_adds_one_by_its_entry_point(installed, capsys):
    assert "toy_locus" not in sys.modules and registry.known("behaviours", "two")
    assert len(behaviours.load("two:x").items) == 2 and "toy_locus" in sys.modules
    assert registry.get("metrics", "mc1").label == "MC1", "a name of ours stays ours"


def test_what_can_be_named_is_listed(installed, monkeypatch, capsys):
    registry.register("judges", "brief", "tests.toys.judge:JUDGE", "hostile \x1b[31m\u202e text [bold]")
    for kind in registry.KINDS:
        monkeypatch.setattr(sys, "argv", ["locus", "list", kind])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        shown = capsys.readouterr().out
        assert all(name in shown for name in registry.entries(kind)), kind
        assert "\x1b" not in shown and "\u202e" not in shown
        assert "[bold]" in shown or kind != "judges"
    monkeypatch.setattr(sys, "argv", ["locus", "list", "metric"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "Did you mean 'metrics'" in capsys.readouterr().err
