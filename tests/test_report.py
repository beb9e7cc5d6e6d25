"""The report: prose from numbers, hostile text made inert, the same figures every time, and a page a browser is content with."""

import csv
import json
import re
import shutil
import sqlite3
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from locus import units
from locus.cli.app import main
from locus.errors import UserError
from locus.records.plan import PlanRecord
from locus.records.store import Store
from locus.records.verdict import Gain, Verdict
from locus.report import chart, cite, words
from locus.report.figures.plot import CALLED
from locus.report.html import isolated
from locus.report.material import read, sites
from locus.report.page import OPEN, write
from locus.shown import visible
from tests.small_run import LONG, NASTY, let_speak, poison


class Seen(HTMLParser):
    """Every element with its attributes, and the text between."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def reported(small_run, tmp_path_factory):
    """The page of a small run as it is, with figures; and what the run held before and after it was written."""
    run = shutil.copytree(small_run, tmp_path_factory.mktemp("reported") / "RUN")

    def held():
        return Store(run / "trials.sqlite").dump(), (run / "verdict.json").read_bytes(), (run / "plan.json").read_bytes()

    before = held()
    page = write(run).read_text(encoding="utf-8")
    return page, before, held()


def assert_inert(page):
    """No element, attribute, address or character that could do anything."""
    seen = Seen(page)
    for tag, attributes in seen.elements:
        assert tag not in {"script", "img", "iframe", "object", "embed", "link", "form", "base"}, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "action"):
                assert str(value).startswith("#"), value
    assert not re.search(r"<script|https?://|url\(|@import", page, re.I)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", page), (
        "hidden characters are spelled out"
    )


def test_a_hostile_run_renders_inert(run_copy):
    poison(run_copy)
    page = write(run_copy).read_text(encoding="utf-8")
    assert_inert(page)
    seen = Seen(page)
    assert "⟨U+202E⟩" in page and "⟨U+001B⟩" in page
    assert "{{7*7}}" in seen.text, "text is no template"
    assert "2,000,000 characters" in page and len(page) < 200_000
    for ending in ("bib", "ris", "enw"):
        assert "\x1b" not in (run_copy / f"cite.{ending}").read_text(encoding="utf-8")


def test_what_models_and_judges_say_renders_inert(run_copy):
    plan = json.loads((run_copy / "plan.json").read_text())
    count = len(plan["items"]["test"])
    let_speak(run_copy, {"base": [NASTY, LONG, *["x"] * count], "claim": [f"<a href='javascript:x'>{NASTY}</a>"] * count}, {})
    plan["items"]["test"][0]["question"] = NASTY
    errors = {"sensitivity": 0.9, "specificity": 0.8, "positives": 9.0, "negatives": 9.0}
    plan["judge"] = {"name": NASTY, "fingerprint": "0" * 64, "confusion": {NASTY: errors}, "seen": 1}
    (run_copy / "plan.json").write_text(json.dumps(plan))
    verdict = json.loads((run_copy / "verdict.json").read_text())
    verdict["judge"] = plan["judge"]
    (run_copy / "verdict.json").write_text(json.dumps(verdict))
    with sqlite3.connect(run_copy / "trials.sqlite") as db:
        db.execute("UPDATE scores SET reason = ?", (NASTY,))
    page = write(run_copy, figures=False).read_text(encoding="utf-8")
    assert_inert(page)
    seen = Seen(page)
    assert len(page) < 200_000 and "2,000,000 characters" in page
    assert seen.text.count("<script>alert(1)</script>") > count, "it is there, as text"


@pytest.mark.parametrize("metric", ["kl", "mc_2"])
def test_a_verdict_by_what_cannot_decide_is_not_shown(metric, run_copy):
    path = run_copy / "verdict.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metric": metric}))
    with pytest.raises(UserError, match="whole"):
        read(run_copy)


def test_answers_stand_side_by_side_where_they_differ_first(run_copy):
    plan = json.loads((run_copy / "plan.json").read_text())
    questions = [item["question"] for item in plan["items"]["test"]]
    count = len(questions)
    truths = [0.5] * count
    truths[3], truths[1] = 1.0, 0.8
    texts = {"base": [f"base {place}" for place in range(count)], "claim": [f"claim {place}" for place in range(count)]}
    let_speak(run_copy, texts | {"ceiling": [" "] * count}, {"base": [0.5] * count, "claim": truths})
    material = read(run_copy)
    assert [one.question for one in material.answers[:3]] == [questions[3], questions[1], questions[0]]
    rows = material.answers[0].rows
    assert [(row.label, row.text, row.scores["truth"]) for row in rows] == [
        ("no edit", "base 3", 0.5),
        ("the claim", "claim 3", 1.0),
        ("everywhere", " ", None),
    ]
    page = write(run_copy).read_text(encoding="utf-8")
    assert page.index(questions[3]) < page.index(questions[1]) < page.index(questions[0])
    assert all(f"claim {place}<" in page for place in range(count)), "up to all questions"
    assert page.count("(nothing)") == count and f"<summary>{count - OPEN} more" not in page
    header = (run_copy / "figures" / "optimal-iti.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "kind,arm,setting,chosen,strength,true_info,truth,info,mc2,kl", "what was judged is drawn"


def test_the_policy_allows_one_sheet_and_nothing_else(reported):
    import base64
    import hashlib

    page = reported[0]
    seen = Seen(page)
    (policy,) = (meta["content"] for meta in seen.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    sheet = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not [attributes for _, attributes in seen.elements if "style" in attributes], "the policy would drop them"


def test_the_page_can_be_read_without_seeing_it(reported):
    page = reported[0]
    seen = Seen(page)
    tables = page.count("<table")
    assert tables >= 3 and page.count("<caption>") == tables
    assert all(cell.get("scope") in ("row", "col") for cell in seen.all("th"))
    assert [attributes["lang"] for attributes in seen.all("html")] == ["en"]
    assert len(seen.all("main")) == len(seen.all("header")) == len(seen.all("footer")) == len(seen.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for drawing in seen.all("svg"):
        assert drawing["role"] == "img" and set(drawing["aria-labelledby"].split()) <= set(ids)
    assert seen.all("a")[0] == {"class": "skip", "href": "#verdict"}
    order = ["verdict", "question", "method", "results", "tests", "limits", "effects", "next", "heads", "cite"]
    places = [page.index(f'id="{"" if name == "verdict" else "h-"}{name}"') for name in order]
    assert places == sorted(places)


def test_the_numbers_on_the_page_are_the_runs(reported, small_run):
    verdict = json.loads((small_run / "verdict.json").read_text())
    page = reported[0]
    text = Seen(page).text
    claim = verdict["claims"][0]
    assert claim["sentence"] in text
    for question in ("works", "special", "unique", "necessary"):
        assert claim[question]["sentence"] in text
    assert f"{100 * verdict['claimed'][0]['mc2']['mean']:.1f} %" in text
    dots = [element for element in Seen(page).all("circle") if element.get("class") == "dot"]
    assert len(dots) == 4


def test_the_map_names_every_head(run_copy):
    material = read(run_copy)
    grid = sites(material)
    assert (len(grid), len(grid[0])) == (3, 4)
    assert [one.name for row in grid for one in row if one.claims] == ["0.1", "2.3"]
    assert sum(one.alone is not None for row in grid for one in row) == 2
    drawn = {name for place in material.verdict.random for name in place.location}
    assert {one.name for row in grid for one in row if one.random} == drawn
    assert "head 2.3, claimed by given" in grid[2][3].title


def test_probe_scores_are_on_the_map(run_copy):
    plan = json.loads((run_copy / "plan.json").read_text())
    plan["claims"][0] |= {"scores": {"0.0": 0.5, "2.3": 0.75}, "origin": "probe"}
    (run_copy / "plan.json").write_text(json.dumps(plan))
    grid = sites(read(run_copy))
    assert (grid[0][0].shade, grid[2][3].shade, grid[1][1].shade) == (0, 5, None)
    assert "probe accuracy 75.0 %" in grid[2][3].title


def test_limits_are_those_of_this_very_run(run_copy):
    """Each limit is said where it holds, and only there."""
    material = read(run_copy)
    plan, content = material.plan.to_json(), material.verdict.to_json()
    blind = {"name": "length", "mc1": 0.6, "mc1_chance": 0.25}
    content["baseline"]["blind"] = [blind]
    for kind in ("claimed", "ceiling", "complement", "random"):
        for entry in content[kind]:
            entry["converged"] = [True]

    def limits():
        verdict = Verdict.parse(content)
        return words.limits(
            PlanRecord.parse(plan), verdict, words.random_places(verdict, material.places["random"]), material.space.kind
        )

    sometimes = {
        "One training seed": lambda yes: plan["config"].update(seeds=1 if yes else 2),
        "a quantised file": lambda yes: plan["model"].update(quantised=yes),
        "(length) reaches 60.0 % MC1 where chance is 25.0 %": lambda yes: blind.update(mc1_interval=[0.3 if yes else 0.2, 0.9]),
        "not settled at the complement:": lambda yes: content["complement"][0].update(converged=[not yes]),
        "not settled at 1 of 4 random Locations": lambda yes: content["random"][2].update(converged=[not yes]),
        "are not finished": lambda yes: content.update(unfinished=3 if yes else 0),
    }
    for hold in sometimes.values():
        hold(False)
    always = limits()
    for sentence in ("6 test questions and 8 training questions", "Read mode “layer”", "Multiple choice and margins"):
        assert sum(sentence in said for said in always) == 1, sentence
    for sentence, hold in sometimes.items():
        hold(True)
        (more,) = set(limits()) - set(always)
        assert sentence in more
        hold(False)


def test_an_unfinished_run_shows_what_there_is(run_copy):
    (run_copy / "verdict.json").unlink()
    with sqlite3.connect(run_copy / "trials.sqlite") as db:
        db.execute("UPDATE trials SET state = 'writing' WHERE role IN ('claim', 'single')")
    page = write(run_copy).read_text(encoding="utf-8")
    assert "3 of" in page and "trials are not finished" in page and "Finish the run" in page
    assert not (run_copy / "verdict.json").exists(), "a report decides nothing"
    with sqlite3.connect(run_copy / "trials.sqlite") as db:
        db.execute("UPDATE trials SET state = 'writing'")
    shutil.rmtree(run_copy / "figures")
    assert "Nothing is measured yet" in write(run_copy, figures=False).read_text(encoding="utf-8")


def test_a_report_changes_no_result(reported):
    _, before, after = reported
    assert after == before


def test_runs_side_by_side(run_copy, small_run):
    verdict = json.loads((run_copy / "verdict.json").read_text())
    page = write(run_copy, [small_run], figures=False).read_text(encoding="utf-8")
    beside = page[page.index('id="h-compare"') :]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", beside[: beside.index("</table>")])
    means = [verdict["baseline"]["base"][0]["mc2"]["mean"], np.mean([one["mc2"]["mean"] for one in verdict["random"]])]
    means += [verdict[kind][0]["mc2"]["mean"] for kind in ("claimed", "ceiling")]
    assert [re.findall(r'<td class="n">(.*?)</td>', row) for row in rows] == [[f"{100 * mean:.1f}" for mean in means]] * 2
    assert "All were judged by the same rule" in page and '<a href="#h-compare">' in page
    (run_copy / "verdict.json").write_text(json.dumps({**verdict, "rule_sha256": "0" * 64}))
    assert "not all judged by the same rule" in write(run_copy, [small_run], figures=False).read_text(encoding="utf-8")


def test_runs_are_named_in_any_order_on_the_command_line(run_copy, small_run, monkeypatch, tmp_path, capsys):
    other = shutil.copytree(small_run, tmp_path / "other")

    def report(*arguments):
        monkeypatch.setattr(sys, "argv", ["locus", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code

    assert report("--compare", run_copy) == 2
    assert report(run_copy, "--compare", other) == 0
    page = (run_copy / "report.html").read_text(encoding="utf-8")
    assert "Beside other runs" in page and "Beside other runs" not in (other / "report.html").read_text(encoding="utf-8")
    assert report(run_copy, other) == 0 and "Beside other runs" not in (run_copy / "report.html").read_text(encoding="utf-8")
    named = {Path(line) for line in capsys.readouterr().out.splitlines()}
    assert named == {
        one / name for one in (run_copy, other) for name in ("report.html", "figures", "cite.bib", "cite.enw", "cite.ris")
    }
    assert all(path.exists() for path in named), "each has its page and figures, and all that was written is named"


def test_figures_are_the_same_bytes_again_and_carry_their_numbers(run_copy, tmp_path):
    write(run_copy)
    first = {path.name: path.read_bytes() for path in (run_copy / "figures").iterdir()}
    names = {"verdict", "head-map", "iti", "optimal-iti", "random-heads", "single-heads", "mc-scores"}
    assert set(first) == {f"{name}.{ending}" for name in names for ending in ("svg", "pdf", "png", "csv")}
    write(run_copy)
    assert {path.name: path.read_bytes() for path in (run_copy / "figures").iterdir()} == first
    verdict = json.loads((run_copy / "verdict.json").read_text())
    rows = list(csv.DictReader((run_copy / "figures" / "random-heads.csv").open(encoding="utf-8")))
    means = sorted(100 * entry["mc2"]["mean"] for entry in verdict["random"])
    assert [float(row["mc2"]) for row in rows if row["kind"] == "random"] == pytest.approx(means)
    rows = list(csv.DictReader((run_copy / "figures" / "mc-scores.csv").open(encoding="utf-8")))
    kinds = ("base", "shift", "complement", "random", "claim", "ceiling")
    lines = [row for row in rows if row["kind"] != "dot"]
    assert [row["kind"] for row in lines] == [*kinds, *kinds] and {row["measure"] for row in rows} == {"MC1", "MC2"}
    assert all(row["edit"].split(", alpha")[0] == CALLED[row["kind"]] for row in lines), "words, and no names of ours"
    dots = [float(row["percent"]) for row in rows if row["kind"] == "dot" and row["measure"] == "MC2"]
    assert sorted(dots) == pytest.approx(means), "every random Location beside the claim"
    width = re.search(rb'<svg[^>]*width="([\d.]+)pt"', first["verdict.svg"]).group(1)
    assert float(width) / 72 == pytest.approx(3.3)


def test_no_folder_no_report(tmp_path, run_copy):
    with pytest.raises(UserError, match=r"a run.s trials\.sqlite"):
        write(tmp_path)
    (run_copy / "verdict.json").write_text("{")
    with pytest.raises(UserError, match="whole"):
        write(run_copy)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢字", "plain é 漢字"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\x1b[2J", "⟨U+001B⟩[2J"),
        ("a\nb", "a⟨U+000A⟩b"),
        ("x" * 301, "x" * 300 + " … (301 characters, the first 300 shown)"),
    ],
)
def test_text_is_made_visible(text, shown):
    assert visible(text) == shown
    assert isolated(text) == f"<bdi>{shown}</bdi>"


@pytest.mark.parametrize(
    ("value", "measure", "shown"),
    [
        (0.1234, "mc2", "12.3 %"),
        (-0.0001, "mc1", "0.0 %"),
        (1.5, "margin", "1.500"),
        (None, "kl", "–"),
        (float("nan"), "mc2", "–"),
    ],
)
def test_amounts_have_units_and_undefined_is_no_number(value, measure, shown):
    assert units.amount(value, measure) == shown


def test_ticks_are_round_and_inside():
    assert chart.ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert chart.ticks(-0.013, 0.031) == pytest.approx([-0.01, 0.0, 0.01, 0.02, 0.03])


def test_the_band_of_a_chart_begins_at_the_ceiling_that_is_tested():
    """Its own search reaches .6; the edit of a place inside it, which validation questions prefer, gains .7 over a base of .2."""
    rows = [chart.ChartRow(kind, kind, mean, mean, mean, 5) for kind, mean in (("base", 0.2), ("ceiling", 0.6))]
    claim = SimpleNamespace(works=SimpleNamespace(margin=0.1))
    own = Gain(estimate=0.4, interval=(0.3, 0.5), level=0.9, n=5, margin_share=0.25)
    inner = own.model_copy(update={"estimate": 0.7, "inner": "probe"})
    assert [round(chart.bound(rows, claim, gain), 9) for gain in (None, own, inner)] == [0.5, 0.5, 0.8]


def test_a_chart_keeps_the_order_of_values():
    rows = [
        chart.ChartRow("a", "base", mean=0.2, low=0.1, high=0.3, n=5),
        chart.ChartRow("b", "claim", mean=0.6, low=0.5, high=0.7, n=5),
    ]
    first, second = chart.layout(rows, "mc2").rows
    xs = [first.x0, first.x, first.x1, second.x0, second.x, second.x1]
    assert xs == sorted(xs) and xs[0] > 0 and xs[-1] < chart.WIDTH
    assert chart.described(rows, "mc2") == "a: 20.0 % (10.0 % to 30.0 %); b: 60.0 % (50.0 % to 70.0 %)."
    assert chart.layout([], "mc2") is None


def test_citations_fit_the_run_and_cannot_be_broken_out_of(run_copy):
    plan = read(run_copy).plan
    keys = [work.key for work in cite.works(plan, "1.0")]
    assert keys[0] == "wang2025editing" and "azar2023ipo" in keys and "rafailov2023dpo" not in keys
    assert keys[-1] == f"locus-{plan.sha256[:12]}"
    model = plan.model.model_copy(update={"name": "x}, evil = {\nER  - \n%0 y"})
    cited = cite.works(plan.model_copy(update={"model": model}), "1.0")
    bib = cite.bibtex(cited)
    depth, free = 0, re.sub(r"\\[{}]", "", bib)
    for char in free:
        depth += (char == "{") - (char == "}")
        assert depth >= 0
    assert depth == 0 and "\n  evil" not in bib
    assert cite.ris(cited).count("\nER  - ") == len(cited)
    assert len(re.findall("^%0 ", cite.endnote(cited), re.M)) == len(cited)
