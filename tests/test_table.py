"""A public table of audits: rows are verified whenever they are read, controls follow from what is signed, the page is inert."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import locus
from locus.claims.chance import heuristic
from locus.cli.app import main
from locus.errors import UserError, VerificationError
from locus.records.findings import ClaimVerdict
from locus.records.store import Store
from locus.records.table import RowRecord
from locus.records.verdict import Verdict
from locus.report import receipt
from locus.report.verify import verify_run
from locus.sites.kind import default
from locus.sites.space import SiteSpace
from locus.table.family import family, sentences
from locus.table.folder import add, check
from locus.table.page import build
from locus.table.rows import Row, part_of
from tests.browser import axe

RUNS = Path(__file__).parent / "runs" / "first-edition"


@pytest.fixture
def table(tmp_path):
    """A table of a planted model and a real one, by runs of the first edition."""
    folder = tmp_path / "table"
    for name, said in (("planted", {}), ("tone", {"source": "a paper", "url": "https://arxiv.org/abs/2502.11447"})):
        add(folder, RUNS / name, "", said)
    return folder


def test_a_row_is_what_the_run_left_but_for_its_edits(table):
    found = check(table)
    assert [(row.name, row.part, row.whole) for row in found.rows] == [("planted", "positive", True), ("tone", "claim", True)]
    assert not list(table.rglob("*.safetensors")) and (table / "rows" / "tone" / "trials.sqlite").is_file()
    assert found.rows[1].record.url.endswith("2502.11447") and found.partial == ()


def test_without_scores_a_row_is_held_against_what_was_signed(tmp_path):
    written = add(tmp_path, RUNS / "tone", "bare", {}, scores=False)
    assert written == ["table.json", "rows/bare/receipt.json", "rows/bare/verdict.json"]
    assert check(tmp_path).partial == ("bare",)
    path = tmp_path / "rows" / "bare" / "verdict.json"
    verdict = json.loads(path.read_text())
    verdict["claims"][0]["special"]["standing"] = "supported"
    path.write_text(json.dumps(verdict))
    with pytest.raises(VerificationError, match="row bare: "):
        check(tmp_path)


def unsigned(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    receipt = json.loads((to / "receipt.json").read_text())
    receipt["signature"] = None
    receipt["views"]["signature"] = None
    (to / "receipt.json").write_text(json.dumps(receipt))
    return to


def test_what_is_forged_twice_there_or_unsigned_is_refused(table, tmp_path):
    before = sorted(path.as_posix() for path in table.rglob("*"))
    forged = tmp_path / "forged"
    shutil.copytree(RUNS / "two-claims", forged)
    verdict = (forged / "verdict.json").read_text()
    (forged / "verdict.json").write_text(verdict.replace("undecided", "supported", 1))
    with pytest.raises(VerificationError):
        add(table, forged, "", {})
    with pytest.raises((UserError, VerificationError), match="sign"):
        add(table, unsigned(RUNS / "two-claims", tmp_path / "unsigned"), "", {})
    for name, said, message in (
        ("again", {}, "which is row 'tone'"),
        ("tone", {}, "a row that is not there yet"),
        ("Ton e", {}, "small letters"),
        ("../out", {}, "small letters"),
        ("other", {"url": "javascript:alert(1)"}, "--url with https"),
        ("other", {"source": "x" * 401}, "at most 400"),
    ):
        run = RUNS / ("two-claims" if name == "other" else "tone")
        with pytest.raises(UserError, match=message):
            add(table, run, name, said)
    assert sorted(path.as_posix() for path in table.rglob("*")) == before


def test_an_audit_whose_receipt_was_written_anew_is_still_one_audit(table, tmp_path):
    """Going on with a finished run writes its receipt anew: another id, by another key if need be, of the same plan."""
    again = tmp_path / "again"
    shutil.copytree(RUNS / "tone", again)
    receipt.write(again, Store(again / "trials.sqlite"), "cpu", sign=True)
    before = json.loads((table / "table.json").read_text())["rows"]["tone"]["receipt"]
    assert verify_run(again).id != before
    with pytest.raises(UserError, match="which is row 'tone'"):
        add(table, again, "", {})
    shutil.copytree(again, table / "rows" / "again")
    record = json.loads((table / "table.json").read_text())
    record["rows"]["again"] = record["rows"]["tone"] | {"receipt": verify_run(again).id}
    (table / "table.json").write_text(json.dumps(record))
    with pytest.raises(VerificationError, match=r"rows (tone and again|again and tone) are one audit"):
        check(table)


def test_what_a_stopped_command_left_is_said_to_be_in_the_way(table):
    (table / "rows" / "half").mkdir()
    with pytest.raises(UserError, match=r"which table.json does not list.*Remove it"):
        add(table, RUNS / "two-claims", "half", {})


@pytest.mark.parametrize("fault", ["moved", "unlisted", "twice", "cut", "link"])
def test_a_table_that_was_tampered_with_does_not_hold(table, fault):
    rows, record = table / "rows", json.loads((table / "table.json").read_text())
    if fault == "moved":
        (rows / "tone").rename(rows / "tune")
    elif fault == "unlisted":
        shutil.copytree(rows / "tone", rows / "more")
    elif fault == "twice":
        shutil.copytree(rows / "tone", rows / "more")
        record["rows"]["more"] = record["rows"]["tone"]
        (table / "table.json").write_text(json.dumps(record))
    elif fault == "cut":
        (rows / "tone" / "plan.json").write_text("{}")
    else:
        (rows / "tone" / "verdict.json").unlink()
        (rows / "tone" / "verdict.json").symlink_to(RUNS / "tone" / "verdict.json")
    with pytest.raises(VerificationError, match=r"more|tone|tune"):
        check(table)


def row(name: str, standing: str, p: float | None, part: str = "claim", kind: str = "", leads: bool | None = None) -> Row:
    """A row of which only what the statistics look at is told."""
    tone = Verdict.parse(json.loads((RUNS / "tone" / "verdict.json").read_text()))
    claim: ClaimVerdict = tone.claims[0]
    special = claim.special.model_copy(update={"standing": standing, "p": p})
    claim = claim.model_copy(update={"name": name, "special": special, "kind": kind})
    place = tone.claimed[0]
    means = {True: (2.0, 1.0), False: (1.0, 2.0)}
    shifts = {}
    if leads is not None:
        ours, theirs = (
            place.model_copy(update={"measures": {tone.metric: place.measures[tone.metric].model_copy(update={"mean": mean})}})
            for mean in means[leads]
        )
        shifts = {"shift": (ours,), "shift_random": (theirs,) * 19}
    verdict = tone.model_copy(update={**shifts, "claims": (claim,)} if shifts else {"shift": (), "claims": (claim,)})
    return Row(name, RowRecord(receipt="A" * 26), verdict, claim, "key", True, part)


def test_what_all_rows_say_together():
    # Of three that lead by the shift one is special, and one could not be asked about.
    # Four p of .001, .04, .5, undefined: adjusted over four .004, .08, .67, NaN.
    rows = [
        row("a", "supported", 0.001, leads=True),
        row("b", "supported", 0.04, leads=False),
        row("c", "refuted", 0.5, leads=True),
        row("d", "invalid", None, kind="mlp", leads=True),
        *(row(f"n{index}", "supported" if index == 0 else "refuted", 0.5, part="negative") for index in range(10)),
        row("n-not-put", "invalid", 0.5, part="negative"),  # whose question could not be put is no negative that stood the test
        row("p", "supported", 0.001, part="positive"),
    ]
    found = family(rows)
    assert [(one.kind, one.claims, one.led, one.tried, one.special) for one in found.groups] == [
        ("head", 3, 2, 3, 2),
        ("mlp", 1, 1, 1, 0),
    ]
    assert (found.total.held.n, found.total.held.value) == (2, 0.5)
    assert found.found == (("a", "a"),)
    assert found.by_chance == pytest.approx(0.15)  # three p at level .05
    assert (found.negative.n, found.negative.value) == (10, 0.1)
    assert found.negative.high == pytest.approx(0.4450, abs=1e-4)  # of 1 in 10, by tables of Clopper and Pearson
    assert (found.positive.n, found.positive.value) == (1, 1.0)
    said = sentences(found)
    assert said[0] == (
        "Of 2 claims that look localized by their own heuristic, 1 is better than random places under the optimal edit at level "
        "0.05 (1 % to 99 %)."
    )
    assert "Of 4 claims in all, the question could be put of 3: 2 are special, 1 refuted and 0 undecided. By chance" in said[2]
    assert said[-2:] == [
        "Of 10 negative controls whose question could be put, 1 is special (0 % to 45 %); by chance alone at most 0.5 would be.",
        "Of 1 positive control, likewise, 1 is special (3 % to 100 %); all should be.",
    ]
    assert sentences(family([])) == ["No claim has been audited yet."]


def test_a_part_follows_from_what_is_signed():
    claim = row("x", "supported", 0.01).claim
    assert part_of("some-model", claim) == "claim"
    assert part_of("some-model", claim.model_copy(update={"origin": "random"})) == "negative"
    planted = Verdict.parse(json.loads((RUNS / "planted" / "verdict.json").read_text()))
    true = planted.claims[0]
    assert part_of(planted.model.name, true) == "positive"
    other = [site for site in ("0.0", "1.1", "3.7") if site not in true.location][: len(true.location)]
    assert part_of(planted.model.name, true.model_copy(update={"location": tuple(other)})) == "negative"
    assert part_of(planted.model.name + ":shuffled", true) == "negative"


def hostile(table: Path) -> None:
    record = json.loads((table / "table.json").read_text())
    record["title"] = "</title><script>window.hit = 1</script>"
    record["rows"]["tone"] |= {"source": '"><img src=x onerror="window.hit = 1">', "note": "\u202eback"}
    (table / "table.json").write_text(json.dumps(record))


def test_the_page_sorts_filters_and_is_inert(table, browser, tmp_path):
    hostile(table)
    written = build(check(table), table, tmp_path / "site")
    assert written == ["index.html", "runs/planted.html", "runs/tone.html"]
    assert (tmp_path / "site" / "index.html").stat().st_size < 2 << 20
    browser.open(tmp_path / "site" / "index.html", 1200)
    shown = "[...document.querySelectorAll('#audits tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent).join()"
    assert browser.value(shown) == "planted,tone"
    assert browser.value("window.hit") is None
    typed = "s = document.getElementById('search'); s.value = {!r}; s.dispatchEvent(new Event('input')); 1"
    browser.value(typed.format("tone"))
    assert (
        browser.value(shown) == "tone" and browser.value("document.getElementById('told').textContent") == "1 of 2 claims shown"
    )
    browser.value(typed.format(""))
    for _ in range(2):
        browser.value("document.querySelector('#audits thead th button').click()")
    assert browser.value(shown) == "tone,planted"
    assert browser.value("document.querySelector('#audits thead th').getAttribute('aria-sort')") == "descending"
    assert browser.value("document.documentElement.scrollWidth") <= 1200
    assert not [event for event in browser.events if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(table, browser, tmp_path, width, scheme):
    if (script := axe()) is None:
        pytest.skip("axe-core is not installed; pip install --no-deps axe-playwright-python")
    build(check(table), table, tmp_path / "site", pages=False)
    browser.open(tmp_path / "site" / "index.html", width, scheme=scheme)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert not browser.serious(script)


def test_from_the_command_line(table, tmp_path, monkeypatch, capsys):
    def told(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["locus", "table", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    status, out, _ = told("check", table)
    assert status == 0 and "verified: 2 claims of 2 audits" in out
    assert told("build", table, "--out", tmp_path / "site", "--no-pages")[0] == 0
    (table / "rows" / "tone" / "verdict.json").write_text("{}")
    status, _, wrong = told("check", table)
    assert status == 3 and "row tone: " in wrong
    assert told("check", tmp_path / "nothing")[0] == 2


def test_a_claim_drawn_at_random_depends_on_the_seed_alone(llama):
    space = SiteSpace.of(default(), llama.layout)

    def drawn(seed: int, size: int = 2, part: str = ""):
        return heuristic(SimpleNamespace(space=space, size=size, seed=seed, part=part))

    claims = [drawn(seed) for seed in range(40)]
    assert {(claim.origin, len(claim.location)) for claim in claims} == {("random", 2)}
    assert drawn(3) == claims[3] and len({claim.location for claim in claims}) > 20  # of 66 pairs of 12 heads
    assert drawn(0, 99).location == space.everywhere  # no more than there are
    several = [drawn(0, 2, part) for part in ("", "2", "3", "4")]
    assert several[0] == drawn(0, 2, "1") and len({claim.location for claim in several}) == 4
    with pytest.raises(UserError, match="one of the 12 places of 1 sites"):
        drawn(0, 1, "13")


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """An audit of the true head, found in two ways, and of two drawn ones, which share all that claims of one size can share."""
    planted = "planted:localized:3"
    claims = ["mass-mean", "attribution", "random", "random:2"]
    small = {"train": 8, "validation": 4, "test": 12, "rounds": 3, "random": 19, "shift_random": 19, "sequential": False}
    shared = {"claim_size": 1, "common_random": True, "share_level": False, "text_passages": 0}
    out = tmp_path_factory.mktemp("several") / "run"
    return locus.audit(planted, planted, claims, out=out, executor="serial", progress=False, **small, **shared)


def test_every_claim_of_an_audit_is_a_row_with_a_lead_of_its_own(several, tmp_path):
    add(tmp_path, several.folder, "several", {}, scores=False)
    rows = check(tmp_path).rows
    assert [(row.claim.name, row.part) for row in rows] == [
        ("mass-mean", "positive"), ("attribution", "positive"), ("random", "negative"), ("random:2", "negative"),
    ]  # fmt: skip
    assert [row.lead.of for row in rows] == [20] * 4 and rows[0].lead.rank == 1
    scores = several.scores(several.verdict.metric)
    shifted = scores[scores.chosen & (scores.split == "test")].groupby(["role", "claim", "arm"]).value.mean()
    for row in rows:
        theirs = shifted["shift-random", row.claim.name]
        assert row.lead.ahead == pytest.approx(shifted["shift", row.claim.name].mean() - theirs.mean())


def test_claims_that_do_not_share_the_level_are_answered_as_if_alone(several):
    assert [claim.special.p for claim in several.verdict.claims[:2]] == [0.05, 0.05]  # rank 1 of 20: under Holm 0.2
    assert json.loads((several.folder / "plan.json").read_text())["rule"]["claims"].startswith("each by itself")
    with pytest.raises(UserError, match="at least 79 random Locations"):
        locus.audit("planted:localized:3", claim=["1.1", "1.2", "1.3", "1.4"], random=19, out=several.folder.parent / "no")
