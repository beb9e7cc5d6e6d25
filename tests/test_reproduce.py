"""A study can be run again: its receipt holds, and its numbers come out again."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from locus.claims import null
from locus.errors import UserError, VerificationError
from locus.records.verdict import Verdict
from locus.report import receipt
from locus.report.consent import Given
from locus.report.terminal.tables import numbers_table
from locus.report.verify import verify
from locus.reproduce import TOLERANCE, Number, compare, find, held, reproduce, settings
from locus.sites.kind import kind_of
from locus.sites.site import Location
from locus.sites.space import SiteSpace

STUDIES = Path(__file__).parents[1] / "studies"
SEALED = sorted(path.parent for path in STUDIES.rglob("receipt.json"))


@pytest.mark.parametrize(
    ("script", "page"), [("statements.py", "truthfulqa/statements.md"), ("modes.py", "read-modes/numbers.md")]
)
def test_committed_tables_are_what_their_scripts_make_of_committed_scores(script, page):
    """To a unit of the last digit: another processor may round another way."""
    done = subprocess.run([sys.executable, STUDIES / script], capture_output=True, text=True, check=True)
    number = re.compile(r"-?\d+(?:\.\d+)?")
    committed, again = (STUDIES / page).read_text().replace("+", ""), done.stdout.replace("+", "")
    assert number.sub("#", again) == number.sub("#", committed)
    for one, other in zip(number.findall(again), number.findall(committed), strict=True):
        assert float(one) == pytest.approx(float(other), abs=10.0 ** -len(other.partition(".")[2]) * 1.01)


@pytest.fixture
def study(tmp_path):
    """A copy of a study that a test may damage."""
    return shutil.copytree(STUDIES / "truthfulqa", tmp_path / "truthfulqa")


@pytest.mark.parametrize("folder", SEALED, ids=lambda folder: folder.name)
def test_every_committed_receipt_holds_and_says_what_is_not_there(folder):
    found = verify(folder)
    assert found.kind == "excerpt" and found.signed_by and found.line.startswith("intact, incomplete, signed by an unknown key")
    there = (folder / "verdict.json").exists()
    assert ("verdict.json" in dict(found.held)["files"], "verdict.json" in found.absent) == (there, not there)
    assert "plan.json" in found.absent
    assert verify(folder / "receipt.json").id == found.id


def test_a_changed_verdict_or_score_of_a_study_is_caught(study):
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    assert dict(verify(study).held)["files"].startswith("verdict.json, scores.parquet")
    table = pyarrow.parquet.read_table(study / "scores.parquet")
    values = table["value"].to_pylist()
    values[7] += 1e-9
    table = table.set_column(table.schema.get_field_index("value"), "value", pa.array(values, pa.float64()))
    pyarrow.parquet.write_table(table, study / "scores.parquet")
    with pytest.raises(VerificationError, match=r"scores\.parquet"):
        verify(study)
    (study / "scores.parquet").unlink()
    (study / "verdict.json").write_text((study / "verdict.json").read_text().replace("refuted", "supported", 1))
    with pytest.raises(VerificationError, match=r"verdict\.json"):
        verify(study)


def test_exported_scores_have_the_hash_of_the_stored_ones(small_run, tmp_path):
    from locus.report.export import export_scores

    export_scores(small_run, tmp_path / "scores")
    stated = json.loads((small_run / "receipt.json").read_text())["body"]["tables"]["scores"]
    assert receipt.exported_hash(tmp_path / "scores" / "scores.parquet") == stated


def test_an_unknown_study_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"planted-figures.*what-editing-shows/localized"):
        find("no-such-study")
    assert find("what-editing-shows/localized").name == "localized"


def test_the_table_of_a_reproduction_says_how_many_agree_and_what_is_not_compared():
    console = Console(record=True, width=200, file=io.StringIO())
    found = [
        Number("no edit mc2", 0.5, 0.501, 0.01),
        Number("claim mc2", 0.5, 0.7, 0.01),
        Number("special", "refuted", "undecided", None),
    ]
    numbers_table(console, found, Path("runs/reproduce-x"))
    text = " ".join(console.export_text().split())
    assert "1 of 2 numbers lie within their tolerance" in text and "not compared" in text and "runs/reproduce-x" in text
    assert text.count("yes") == 1 and text.count("NO") == 1


def test_a_study_whose_questions_are_a_file_asks_for_it(study):
    """Also where a file lies at the path that the receipt names: that path is of the machine where the study was run."""
    with pytest.raises(UserError, match=r"TruthfulQA\.csv', which would be opened.*--data"):
        settings(study)


def test_other_questions_than_the_studys_are_refused(study):
    with pytest.raises(UserError, match="e2f599320da3"):
        reproduce(str(study), given=Given(data="misconceptions"))


def test_small_keeps_what_a_number_depends_on(study):
    full, small = (settings(study, Given(data="misconceptions"), small) for small in (False, True))
    changed = {name for name, value in full.model_dump().items() if getattr(small, name) != value}
    assert changed == {"random", "shift_random", "alpha"}
    # With 3 random places the least possible rank p is 1 / 4.
    assert (small.random, small.alpha) == (3, 0.25)


def test_small_keeps_the_first_single_heads_of_a_study_that_has_no_random_locations(study):
    receipt = json.loads((study / "receipt.json").read_text())
    receipt["body"]["config"] |= {"random": 0, "singles": 24, "shift_random": 0, "shift_everywhere": True}
    (study / "receipt.json").write_text(json.dumps(receipt))
    small = settings(study, Given(data="misconceptions"), small=True)
    assert (small.random, small.singles, small.shift_random, small.alpha) == (0, 3, 0, 0.05)
    few, many = (
        null.draw_locations(Location.parse("0.0"), SiteSpace(kind_of("head"), (9,) * 30), count, 1, "uniform")
        for count in (3, 24)
    )
    assert [each.location for each in few] == [each.location for each in many[:3]]


def test_a_claim_that_a_study_brings_is_found_in_its_folder():
    ioi = STUDIES / "ioi"
    assert json.loads((ioi / "receipt.json").read_text())["body"]["config"]["claims"] == ["patch:studies/ioi/patch-ioi-all"]
    assert settings(ioi).claims == (f"patch:{ioi / 'patch-ioi-all'}",)
    assert settings(STUDIES / "planted-figures").claims == ("probe",)


def test_a_number_outside_its_tolerance_is_named():
    verdict = json.loads((STUDIES / "planted-figures" / "verdict.json").read_text())
    same = compare(Verdict.parse(verdict), Verdict.parse(verdict), TOLERANCE)
    held(same)
    assert {"no edit mc1", "ceiling ceiling:heads layer mc2", "random (mean of 19) mc2"} <= {number.name for number in same}
    moved = json.loads(json.dumps(verdict))
    moved["claimed"][0]["mc2"]["mean"] += 2 * TOLERANCE["mc2"]
    moved["claims"][0]["special"]["standing"] = "undecided"
    with pytest.raises(VerificationError, match=r"2 of \d+ .*claimed probe layer mc2.*special"):
        held(compare(Verdict.parse(verdict), Verdict.parse(moved), TOLERANCE))


def test_of_many_places_those_are_compared_that_both_have():
    verdict = json.loads((STUDIES / "planted-figures" / "verdict.json").read_text())
    fewer = json.loads(json.dumps(verdict))
    fewer["random"] = fewer["random"][:2]
    fewer["single"] = []
    found = {number.name: number for number in compare(Verdict.parse(verdict), Verdict.parse(fewer), TOLERANCE)}
    # By hand: the mean of the first two random places' MC2, in both.
    two = sum(arm["mc2"]["mean"] for arm in verdict["random"][:2]) / 2
    assert found["random (mean of 2) mc2"] == Number("random (mean of 2) mc2", two, two, TOLERANCE["mc2"])
    assert not any(name.startswith("single") for name in found)


def test_standings_by_another_rule_need_not_agree():
    assert Number("works", "supported", "refuted", None).agrees
    assert not Number("works", "supported", "refuted", 0.0).agrees


@pytest.mark.slow
def test_a_study_comes_out_again(tmp_path):
    found = reproduce("planted-figures", tmp_path / "RUN", size="small")
    held(found)
    assert any(number.name == "claimed probe layer mc2" for number in found)
