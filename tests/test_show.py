"""What the terminal shows: every figure at any width, and progress that a log file can hold."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from locus.behaviours.items import TRUTH
from locus.metrics import shipped, tabled
from locus.records.verdict import Verdict
from locus.report.terminal import verdict_table
from locus.report.terminal.progress import lines
from locus.report.terminal.results import columns, tables
from locus.units import amount, bare, difference


def printed(width: int, *what) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for one in what:
        console.print(one)
    return console.export_text()


def table_of(run: Path, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    verdict_table(console, Verdict.parse(json.loads((run / "verdict.json").read_text())), run)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120, 132])
def test_every_figure_is_in_the_table_at_any_width(small_run, width):
    text = table_of(small_run, width)
    assert "…" not in text, "something was cropped"
    assert max(len(line.rstrip()) for line in text.splitlines() if "report.html" not in line) <= width
    verdict = json.loads((small_run / "verdict.json").read_text())
    for entry in (
        *verdict["baseline"]["base"],
        *verdict["claimed"],
        *verdict["ceiling"],
        *verdict["complement"],
        *verdict["shift"],
    ):
        for measure in ("mc1", "mc2", "margin", "kl", "ce"):
            if measure not in entry:
                continue
            one = entry[measure]
            scale, digits = {"margin": (1, 2), "kl": (1, 3), "ce": (1, 3)}.get(measure, (100, 1))
            shown = [f"{scale * value:z.{digits}f}" for value in (one["mean"], *one["interval"])]
            assert shown[0] in text, (entry["name"], measure)
            assert measure in ("kl", "ce") or f"[{shown[1]}, {shown[2]}]" in text, (entry["name"], measure)


def test_a_run_without_random_locations_shows_its_claim_and_single_heads(small_run):
    verdict = Verdict.parse(json.loads((small_run / "verdict.json").read_text()) | {"random": []})
    console = Console(width=132, record=True, file=io.StringIO())
    verdict_table(console, verdict, small_run)
    text = console.export_text()
    assert "optimal at given" in text and "single heads" in text and "optimal everywhere but there" in text
    assert "0 random Locations of" not in text


def test_a_table_too_wide_for_two_lines_a_row_becomes_two_tables():
    known = [one for one in shipped() if not one.needs_judge or one.judged_by(TRUTH)]
    headings = columns(tabled(known), judged=True)
    cells = {name: (f"{number}00.0", "[100.0, 100.0]") for number, name in enumerate(headings, 1)}
    made = tables(headings, [("no edit", cells)], 80)
    text = printed(80, *made)
    # Eight columns of 14 and a space each do not fit 80 - 16: four do.
    assert len(made) == 2 and "…" not in text
    assert all(f"{number}00.0" in text for number in range(1, 9)) and text.count("[100.0, 100.0]") == 8
    assert len(tables(headings, [("no edit", cells)], 200)) == 1


def test_lines_of_progress_come_now_and_then_and_say_what_is_left():
    clock = iter([0.0, 0.0, 30.0, 90.0, 120.0])
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    told = lines(console, lambda: next(clock))
    for what, share in [("a", 0.0), ("a", 0.04), ("b", 0.25), ("b", 0.26), ("c", 0.255), ("", 0.75), ("", 1.0)]:
        told(what, share)
    # 30 s for a quarter leave 90 s; 90 s for three quarters leave 30 s.
    assert console.export_text().splitlines() == [
        "  0%  0:00:00  a",
        " 25%  0:00:30, 0:01:30 left  b",
        " 75%  0:01:30, 0:00:30 left  b",
        "100%  0:02:00  b",
    ]


def test_a_piped_audit_prints_plain_lines_only(tmp_path, llama_folder):
    command = [
        sys.executable,
        "-m",
        "locus",
        "audit",
        "--model",
        llama_folder,
        "--claim",
        "0.1",
        "--out",
        str(tmp_path / "RUN"),
    ]
    command += ["--random", "4", "--alpha", "0.25"]
    for one in ("epochs=1", "train=8", "validation=4", "test=6", "text_passages=0", "judge='none'"):
        command += ["--set", one]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stdout + done.stderr), "control characters"
    lines = done.stderr.splitlines()
    assert lines and all(re.match(r"\s*\d+%  \d+:\d\d:\d\d(, \d+:\d\d:\d\d left)?  \w", line) for line in lines), done.stderr
    assert "100%" in lines[-1]


def test_one_convention_of_units():
    # 0.2134 is 21.3 %; a difference of 0.05 is 5.0 points of a percent; nats stay as they are.
    assert amount(0.2134, "mc2") == "21.3 %" and bare(0.2134, "mc2") == "21.3"
    assert difference(0.05, "mc1") == "+5.0 points" and difference(-0.05, "margin") == "-0.050 nats"
    assert difference(0.05, "mc1", unit=False, sign=False) == "5.0"
    assert amount(None, "mc1") == amount(float("nan"), "margin") == difference(float("nan"), "mc1") == "–"
    assert bare(-0.00001, "mc1") == "0.0", "no minus before a zero"


def test_the_defaults_that_the_help_shows_are_the_presets():
    from typer.main import get_command

    from locus.cli.app import app
    from locus.plan.config import resolve

    checked = []
    for option in get_command(app).commands["audit"].params:
        shown = getattr(option, "show_default", None)
        if option.name in ("claim_size", "random", "alpha", "seed") and isinstance(shown, str):
            checked.append(option.name)
            quick, *others = shown.split("; ")
            assert float(quick) == getattr(resolve("quick"), option.name)
            values_of_preset = dict(other.split(": ") for other in others)
            for preset in ("standard", "paper"):
                expected = getattr(resolve(preset), option.name)
                assert float(values_of_preset.get(preset, quick)) == expected, (option.name, preset)
    assert checked == ["claim_size", "random", "alpha", "seed"]
    assert resolve("quick").metric == "margin" and resolve("standard").metric == "true_info"


def test_verify_says_what_it_checked(small_run):
    from locus.report.terminal import verified_table
    from locus.report.verify import verify

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    verification = verify(small_run)
    verified_table(console, verification)
    text = " ".join(console.export_text().split())
    receipt = json.loads((small_run / "receipt.json").read_text())
    assert f"{len(receipt['body']['artefacts'])} of the run and {len(receipt['views']['files'])} drawn from it" in text
    assert f"{len(receipt['body']['tables'])} tables" in text and text.startswith("verified, signed by you")
    assert "derived anew from the stored scores: the same, for 1 claim(s)" in text


def test_power_of_a_run_is_of_its_own_size_and_warns_where_its_verdict_is_invalid(small_run):
    from locus.calibrate.power import power_of

    sizes = power_of(small_run)
    plan = json.loads((small_run / "plan.json").read_text())
    assert (sizes["n_random"], sizes["n_questions"], sizes["alpha"]) == (4, len(plan["items"]["test"]), 0.25)
    # A random model has nothing to find: its ceiling has no effect on unseen questions.
    assert sizes["warning"].startswith("This run's verdict is invalid") and "no clear effect" in sizes["warning"]
    assert power_of(small_run, n_random=9)["n_random"] == 9 and power_of(None)["n_random"] == 19 and not power_of(None)["warning"]
