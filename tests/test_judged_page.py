"""The page of a run that a judge took part in: other forms of True*Info, rates corrected for the judge's errors."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from locus.audit import audit
from locus.plan.config import resolve
from locus.records.store import Store
from locus.report.material import read
from locus.report.page import render, write
from tests.small_run import SMALL


@pytest.fixture(scope="module")
def finished(tmp_path_factory, llama_folder):
    """A small audit whose answers were judged by their wording, which is quick and has known errors."""
    out = tmp_path_factory.mktemp("judged") / "RUN"
    audit(resolve("quick", model=str(llama_folder), judge="blind", max_new_tokens=8, **SMALL), out)
    return out


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "RUN")


class Table(HTMLParser):
    """Cells of the first table after a heading, by row."""

    def __init__(self, page: str, heading: str):
        super().__init__()
        self.rows: list[list[str]] = []
        start = page.index(heading)
        self.feed(page[start : page.index("</table>", start)])

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "small" and self.rows:
            self.rows[-1][-1] += "|"

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def stored(run, measure):
    """The unedited model's scores of test answers, as the store has them."""
    plan = json.loads((run / "plan.json").read_text())
    trial = next(trial["id"] for trial in plan["trials"] if trial["role"] == "base")
    store = Store(run / "trials.sqlite")
    values = store.scores(trial, "test", measure, [item["id"] for item in plan["items"]["test"]])
    store.close()
    return values, plan["judge"]["confusion"]


def test_what_the_judge_says_is_shown_in_all_forms_and_corrected(run):
    truth, errors = stored(run, "truth")
    info, _ = stored(run, "info")
    table = Table(write(run, figures=False).read_text(encoding="utf-8"), "What was said, by the judge").rows
    row = dict(zip(table[0], next(row for row in table if row[0] == "no edit"), strict=True))
    shown = {name.replace("|", ", "): cell.split("|")[0] for name, cell in row.items()}
    both = (truth >= 0.5) & (info >= 0.5)

    def left(target, said):
        """Rogan and Gladen: the share of positives that gives a share of judgements, at the judge's error rates."""
        sensitivity, specificity = errors[target]["sensitivity"], errors[target]["specificity"]
        return np.clip((np.mean(said) + specificity - 1) / (sensitivity + specificity - 1), 0, 1)

    expected = {
        "Product, % of means": np.mean(truth) * np.mean(info),
        "Both, %": np.mean(both),
        "Both, % corrected": left("both", both),
        "True, % corrected": left("truth", truth >= 0.5),
        "Info, % corrected": left("info", info >= 0.5),
    }
    assert {name: shown[name] for name in expected} == {name: f"{100 * value:.1f}" for name, value in expected.items()}
    low, high = map(float, row["Both|% corrected"].split("|")[1].split(" to "))
    assert 0 <= low <= float(shown["Both, % corrected"]) <= high <= 100 and high - low > 5, "an interval"


def test_the_judges_errors_are_among_the_limits(run):
    page = write(run, figures=False).read_text(encoding="utf-8")
    _, errors = stored(run, "truth")
    limits = page[page.index('id="h-limits"') : page.index('id="h-effects"')]
    for one in errors.values():
        assert f"it finds {100 * one['sensitivity']:.1f} %" in limits and f"it rejects {100 * one['specificity']:.1f} %" in limits
    assert "judged by “blind”" in limits and "Multiple choice and margins" not in limits


def test_a_judge_whose_errors_nobody_measured_corrects_nothing(run):
    plan = json.loads((run / "plan.json").read_text())
    plan["judge"]["confusion"] = {}
    (run / "plan.json").write_text(json.dumps(plan))
    for name in ("verdict.json", "receipt.json"):
        (run / name).unlink()
    page = write(run, figures=False).read_text(encoding="utf-8")
    table = Table(page, "What was said, by the judge").rows
    assert "Both|%" in table[0] and not any("corrected" in name for name in table[0])
    assert page.count("errors were never measured") == 2, "at the table and among the limits"


def test_a_run_without_a_judge_has_no_such_table(run_copy):
    assert "by the judge" not in render(read(run_copy), [], [], [])


def test_the_method_says_who_judged_how_much(run):
    page = write(run, figures=False).read_text(encoding="utf-8")
    assert re.search(r"What each edited model said \(at most 8 tokens\) was judged by <bdi>blind</bdi>", page)
