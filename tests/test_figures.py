"""Figures of error rates and power: the numbers drawn are those given, the intervals exact, the bytes the same again."""

import csv
import json

import pytest

from locus.errors import UserError
from locus.report.figures import errors
from locus.report.figures.plot import save


def rows_of(folder, name):
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row(kind, claim, question, expected, wrong, n):
    rest = dict.fromkeys(("share", "low", "high"), 0.0)  # drawn are counts, and intervals of their own
    counts = {"supported": n, "refuted": 0, "undecided": 0, "invalid": 0}
    counts |= {"wrong": {"count": wrong, "n": n, **rest}, "right": {"count": n - wrong, "n": n, **rest}}
    about = {"kind": kind, "claim": claim, "read": "layer", "metric": "mc2", "question": question, "expected": expected}
    return {**about, "n": n, "all": counts, "sequential": counts}


def tally():
    """Four audits of a place that is not special, with ranks 1, 2, 10 and 20 of 20, and two of one that is."""
    rows = [
        row("distributed", "planted", "special", "refuted", 1, 4),
        row("localized", "planted", "special", "supported", 0, 2),
        row("localized", "planted", "works", "supported", 1, 2),
        row("localized", "planted", "unique", "", 0, 2),
    ]
    ranks = {"distributed planted": [0.05, 0.1, 0.5, 1.0], "localized planted": [0.05, 0.05]}
    about = {"settings": {"alpha": 0.05, "margin": 0.25, "random": 19}, "draws": 6, "saved": {}, "named": {}}
    return {"rows": rows, "rank_p": ranks, **about}


def test_calibration_counts_false_claims_alone_and_its_intervals_are_exact(tmp_path):
    (tmp_path / "calibration.json").write_text(json.dumps(tally()))
    assert errors.write(tmp_path) == ["calibration", "calibration-errors"]
    drawn = {round(float(one["level"]), 2): one for one in rows_of(tmp_path / "figures", "calibration")}
    # Of the four ranks of a false claim 1 is at or under 0.05, 2 at or under 0.1 and 0.45, 3 at or under 0.5.
    assert [float(drawn[level]["share"]) for level in (0.05, 0.1, 0.45, 0.5)] == [0.25, 0.5, 0.5, 0.75]
    # Clopper-Pearson for 1 of 4: the lower end solves 1 - (1 - p)^4 = 0.025, the upper (1 - p)^4 + 4 p (1 - p)^3 = 0.025.
    low, high = float(drawn[0.05]["low"]), float(drawn[0.05]["high"])
    assert 1 - (1 - low) ** 4 == pytest.approx(0.025) and (1 - high) ** 4 + 4 * high * (1 - high) ** 3 == pytest.approx(0.025)
    wrong = {(one["kind"], one["question"]): float(one["share"]) for one in rows_of(tmp_path / "figures", "calibration-errors")}
    expected = {("distributed", "special"): 0.25, ("localized", "special"): 0.0, ("localized", "works"): 0.5}
    assert wrong == expected, "where construction settles nothing, no answer is wrong"


def test_power_is_drawn_as_given_and_the_same_again(tmp_path):
    content = {"effects": [1.0, 2.0], "curve": {"19": [0.1, 0.6], "39": [0.05, 0.8]}, "want": 0.8}
    (tmp_path / "power.json").write_text(json.dumps(content))
    assert errors.write(tmp_path / "power.json") == ["power"]
    rows = rows_of(tmp_path / "figures", "power")
    drawn = [(int(one["random Locations"]), float(one["effect"]), float(one["power"])) for one in rows]
    assert drawn == [(19, 1.0, 0.1), (19, 2.0, 0.6), (39, 1.0, 0.05), (39, 2.0, 0.8)]
    first = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert {name.split(".")[1] for name in first} == {"svg", "pdf", "png", "csv"}
    save(errors.of_power(content), tmp_path / "figures")
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == first


def test_graded_answers_are_drawn_by_share_with_exact_intervals(tmp_path):
    nothing = {"count": 0, "n": 4, "share": 0.0, "low": 0.0, "high": 0.5}

    def cell(percent, claim, supported, n):
        counts = {"supported": supported, "refuted": n - supported, "undecided": 0, "invalid": 0}
        about = {"percent": percent, "claim": claim, "random": 19, "question": "special", "expected": "", "n": n}
        return {**about, "false": nothing, "missed": nothing, "all": counts, "sequential": counts}

    settings = {"rule": "rule/4", "alpha": 0.05, "margin": 0.25, "random": 19, "metric": "mc2", "search": "newton", "steps": 15}
    settings["near"] = 0.8
    cells = [cell(60, "planted", 3, 4), cell(20, "planted", 0, 4), cell(20, "other", 4, 4)]
    (tmp_path / "graded.json").write_text(json.dumps({"settings": settings, "draws": 8, "cells": cells, "searches": []}))
    assert errors.write(tmp_path) == ["graded"]
    low, high = rows_of(tmp_path / "figures", "graded")[1], rows_of(tmp_path / "figures", "graded")[0]
    assert [(float(one["s"]), float(one["share"])) for one in (low, high)] == [(0.2, 0.0), (0.6, 0.75)]
    # Clopper-Pearson of 0 of 4: upper bound 1 - 0.025^(1/4).
    assert float(low["high"]) == pytest.approx(1 - 0.025**0.25)


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"rows": []}', '{"curve": 3, "effects": [], "want": 1}'])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(UserError, match="calibrate or locus power"):
        errors.write(tmp_path / "other.json")
