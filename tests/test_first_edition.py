"""Whole run folders of the first edition are read, concluded again to the same numbers, verified, resumed and reported."""

import json
import shutil
from pathlib import Path

import pytest

from locus.audit import audit
from locus.behaviours.items import content_hash
from locus.conclude import derive as conclude
from locus.conclude.record import Record
from locus.door.asked import asked
from locus.errors import UserError
from locus.machine.threads import using
from locus.plan import reading
from locus.plan.config import AuditConfig
from locus.records.store import Store
from locus.report import page
from locus.report.derived import copied_store, first_difference
from locus.report.export import export_scores
from locus.report.verify import verify

RUNS = Path(__file__).parent / "runs" / "first-edition"
FINISHED = ["planted", "two-claims", "tone", "judged", "uninterrupted"]


@pytest.fixture
def run(request, tmp_path):
    return Path(shutil.copytree(RUNS / request.param, tmp_path / "RUN"))


@pytest.mark.parametrize("name", FINISHED)
def test_the_verdict_is_concluded_again_to_the_same_numbers(name):
    with copied_store(RUNS / name) as store:
        derived = conclude.derive(Record(reading.read_plan(RUNS / name), store)).to_json()
    stated = json.loads((RUNS / name / "verdict.json").read_text())
    assert not first_difference({part: stated[part] for part in derived}, derived)


@pytest.mark.parametrize("name", FINISHED)
def test_it_verifies(name):
    found = verify(RUNS / name)
    assert found.kind == "run" and found.claims and not found.absent
    assert found.line.startswith("intact, signed by an unknown key fab4cec7") and "earlier edition" in found.unchecked[0]


@pytest.mark.parametrize("run", FINISHED, indirect=True)
def test_it_is_reported_and_exported(run, request, tmp_path):
    before = (run / "trials.sqlite").read_bytes(), (run / "plan.json").read_bytes(), (run / "verdict.json").read_bytes()
    page.write(run, figures=request.node.callspec.params["run"] in ("judged", "two-claims"), sign=False)
    export_scores(run, tmp_path / "scores")
    assert (run / "report.html").stat().st_size > 10_000 and (tmp_path / "scores" / "scores.csv").exists()
    assert before == ((run / "trials.sqlite").read_bytes(), (run / "plan.json").read_bytes(), (run / "verdict.json").read_bytes())
    assert verify(run).kind == "run"


@pytest.mark.parametrize("run", ["interrupted"], indirect=True)
def test_checks_that_come_out_in_other_digits_are_said_with_what_may_be_the_cause(run):
    """As they do with another number of threads than that of a plan which names none."""
    plan = json.loads((run / "plan.json").read_text())
    plan["model"]["checks"][2] = plan["model"]["checks"][2].replace("(difference ", "(difference 1")
    plan["sha256"] = content_hash({name: value for name, value in plan.items() if name != "sha256"})
    (run / "plan.json").write_text(json.dumps(plan))
    config = AuditConfig.recorded(plan["config"])
    with using(2), pytest.warns(UserWarning, match="does not say"), pytest.raises(UserError, match="OMP_NUM_THREADS"):
        audit(config, run, sign=False)


@pytest.mark.parametrize("run", ["interrupted"], indirect=True)
def test_a_run_that_was_killed_goes_on_to_the_rows_of_the_undisturbed_one(run):
    config = AuditConfig.recorded(json.loads((run / "plan.json").read_text())["config"])
    try:
        with using(2), pytest.warns(UserWarning, match="does not say with how many threads"):
            audit(config, run, sign=False)
    except UserError as error:
        if "last digits" not in str(error):
            raise
        pytest.skip("another processor than the one that began this run: it is refused, since its last digits would differ")
    with copied_store(RUNS / "uninterrupted") as undisturbed:
        rows = undisturbed.dump()
    store = Store(run / "trials.sqlite")
    assert store.dump() == rows and len(rows) == 3744
    store.close()
    assert verify(run).kind == "run"


@pytest.mark.parametrize("run", ["interrupted", "uninterrupted"], indirect=True)
def test_the_command_that_began_a_run_goes_on_with_it(run, tmp_path):
    """Presets have changed since; what was not said then is as it was then, and in a new folder as it is now."""
    recorded = AuditConfig.recorded(json.loads((run / "plan.json").read_text())["config"])
    command = {"sequential": False, "bank": recorded.bank, "seed": recorded.seed}
    again, anew = (asked(recorded.model, None, None, "quick", None, command, out)[0] for out in (run, tmp_path / "NEW"))
    assert again == recorded and again.rule == 3 and anew.rule == 4
