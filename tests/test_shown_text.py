"""What is shown is harmless: no command to a terminal, no formula in a spreadsheet, no name that becomes a path."""

import csv
import importlib
import io
import json
import logging
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locus import shown
from locus.boundary import spreadsheet, terminal
from locus.cli.app import app, ending, main
from locus.errors import PreconditionsError, UserError, VerificationError
from locus.judges import compare
from locus.judges.blind import BlindJudge
from locus.records.patch import PatchRecord
from locus.records.plan import PlanRecord
from locus.records.verdict import Verdict
from locus.report import cite
from locus.report import terminal as show
from locus.report.export import export_scores
from locus.report.page import write
from locus.report.terminal.progress import progress
from locus.report.verify import Verification
from tests.payloads import COMMANDS, FILE, FORMULAE, TERMINAL, infest

RUNS = Path(__file__).parent / "runs" / "first-edition"
TEXTS = st.text(st.characters(exclude_categories=()) | st.sampled_from("\x1b\x9b\u202e\udcff\u3164\ufe01=+-@\t\r\n;'＝"))
PATHS = ("../../../../out", "/tmp/out", "CON", "-rf", ".hidden", "a/b")
FIRST = tuple("=+-@\t\r＝＋－＠")


# --- forms


@given(TEXTS)
def test_nothing_hidden_is_left_and_nothing_plain_is_touched(text):
    for form, kept in ((shown.harmless, "\n\t"), (shown.line, ""), (lambda one: shown.visible(one, 10**6), "")):
        text_shown = form(text)
        assert not any(shown.hidden(char) for char in text_shown if char not in kept)
        assert not COMMANDS.search(text_shown.replace("\t", ""))
        assert form(text_shown) == text_shown, "spelled out once"
        text_shown.encode("utf-8")
    if text.isprintable() and not any(map(shown.hidden, text)):
        assert shown.harmless(text) == shown.visible(text, 10**6) == text


def test_each_kind_of_hidden_character_is_spelt():
    spelt = {"\x1b": "\\x1b", "\x9b": "\\x9b", "\u202e": "\\u202e", "\u200b": "\\u200b", "\u2028": "\\u2028", "\udcff": "\\xff"}
    spelt |= {
        "\x7f": "\\x7f",
        "\r": "\\r",
        "\u2067": "\\u2067",
        "\u3164": "\\u3164",
        "\U000e0041": "\\U000e0041",
        "\xad": "\\xad",
    }
    assert {char: shown.harmless(char) for char in spelt} == spelt
    assert shown.harmless("漢字 é 👍️\tb\nc") == "漢字 é 👍️\tb\nc" and shown.line("b\tc\nd") == "b\\tc\\nd"
    assert shown.line("x" * 30, 10) == "xxxxxxxxxx … (30 characters, the first 10 shown)"
    assert shown.visible("a\x1b\ud800") == "a⟨U+001B⟩⟨U+D800⟩"


@given(TEXTS)
def test_a_cell_begins_no_formula_and_gives_the_text_back(text):
    made = spreadsheet.cell(text)
    # A spreadsheet may split at semicolons, and end a row within quotes that are not at a field's beginning.
    assert not any(part.startswith(FIRST) for part in re.split("[;\r\n]", made))
    assert spreadsheet.from_cell(made) == text


@pytest.mark.parametrize("number", [-0.5, -3, 0.0, None])
def test_a_negative_number_is_a_number(number, tmp_path):
    spreadsheet.write_csv(tmp_path / "a.csv", ["=name", "value"], [("-0.5", number)])
    rows = list(csv.reader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))
    assert rows == [["'=name", "value"], ["'-0.5", "" if number is None else str(number)]]


@given(TEXTS)
def test_latex_sees_no_command_and_no_brace(text):
    commands = re.compile(r"\\[%#&_${}]|\\text(backslash|asciitilde|asciicircum) ")
    assert not re.search(r"[\\{}~^%#&_$]", commands.sub("", shown.tex(text)))


@given(TEXTS)
def test_a_cell_of_markdown_stays_one_cell(text):
    assert not re.search(r"[|`<>\[\]&\n]", re.sub(r"\\.", "", shown.markdown(text)))


def test_errors_are_one_line_whatever_they_name():
    error = UserError("a file", FILE, "Mend it.")
    assert str(error) == f"expected a file; received {shown.line(FILE)}. Mend it." and error.received == FILE
    assert len(str(PreconditionsError([error, error])).splitlines()) == 3
    assert not COMMANDS.search(str(VerificationError(f"{FILE} is missing"))) and "\n" not in str(VerificationError("a\nb"))
    assert str(UserError("x", repr(FILE), "")).count("\\xff") == 1, "a byte is a byte, also after repr"


# --- the terminal


def run(monkeypatch, capfdbinary, *arguments: str) -> tuple[int, bytes]:
    """The command line in this process; its status, and every byte that it wrote."""
    monkeypatch.setattr(sys, "argv", ["locus", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capfdbinary.readouterr()
    return stop.value.code, out + err


def clean(written: bytes) -> str:
    """What was written, if it is text without commands."""
    text = written.decode("utf-8")
    assert not COMMANDS.search(text), COMMANDS.search(text)
    return text


@pytest.fixture
def hostile_folder(tmp_path):
    """A run in a folder with a hostile name, hostile in all its texts."""
    folder = tmp_path / FILE
    shutil.copytree(RUNS / "judged", folder)
    infest(folder, [TERMINAL])
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "--out", "OUT", "--model", FILE],
        ["audit", "--out", "OUT", "--data", FILE],
        ["audit", "--out", "OUT", "--claim", FILE],
        ["audit", "--out", "OUT", "--config", FILE],
        ["audit", "--out", "OUT", "--preset", FILE],
        ["audit", "--out", "OUT", "--set", FILE],
        ["audit", "--out", "OUT", "--set", f"judge={FILE}"],
        ["audit", "--out", "OUT", "--metric", FILE],
        *(["audit", "--out", "OUT", "--set", f"{name}={FILE}"] for name in ("metric", "metrics", "edit", "steering", "executor")),
        ["audit", "--out", "OUT", "--set", f"metrics=['{FILE}']"],
        ["list", FILE],
        ["claims", "--model", FILE],
        ["probe", "--model", FILE],
        ["plan", "--model", FILE],
        ["plan", "--data", FILE],
        ["patch", "--out", "OUT", "--model", FILE, "--task", FILE],
        ["merge", FILE, "--out", "OUT"],
        ["report", FILE],
        ["export", FILE, "--to", "OUT"],
        ["export", FILE, "--to", "OUT", "--as", FILE],
        ["verify", FILE],
        ["verify", str(RUNS / "judged"), "--expect", FILE],
        ["power", FILE],
        ["behaviours", FILE],
        ["table", "add", FILE, "--table", "OUT", "--name", FILE],
        ["table", "add", str(RUNS / "tone"), "--table", "OUT", "--name", FILE],
        ["table", "check", FILE],
        ["table", "build", FILE, "--out", "OUT"],
        ["sweep", FILE, "--out", "OUT"],
        ["forecast", "--sweep", FILE],
        ["forecast", "--model", FILE],
        ["calibrate", "--out", "OUT", "--kinds", FILE],
        ["doctor", "--model", FILE],
        ["judge", "train", "--labels", FILE, "--references", FILE, "--out", "OUT"],
        ["judge", "eval", "--labels", FILE, "--out", "OUT", "--judge", FILE],
        ["judge", "eval", "--labels", FILE, "--out", "OUT", "--judge", "blind"],
        ["reproduce", FILE],
        ["keys", "add", FILE, FILE],
        ["keys", "rename", FILE, FILE],
        ["keys", "remove", FILE],
        [FILE],
        ["audit", f"--{FILE}"],
        ["audit", "--out", "OUT", "--seed", FILE],
        ["audit", "--out", "OUT", FILE],
    ],
    ids=lambda arguments: " ".join(shown.line(one).replace(shown.line(FILE), "X").replace(str(RUNS), "") for one in arguments),
)
def test_no_command_hands_a_name_to_the_terminal(arguments, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "config"))
    status, written = run(monkeypatch, capfdbinary, *arguments)
    assert status in (2, 3) and b"bug in locus" not in written
    text = clean(written)
    assert "\nverified" not in text or arguments[0] == FILE or len(arguments) == 2, "no line of its own"


def test_every_command_was_tried():
    from typer.main import get_command

    marks = test_no_command_hands_a_name_to_the_terminal.pytestmark[0].args[1]
    tried = {arguments[0] for arguments in marks}
    assert set(get_command(app).commands) <= tried


@pytest.mark.parametrize(
    ("command", "status"),
    [(["report", "RUN"], 0), (["export", "RUN", "--to", "TO"], 0), (["verify", "RUN"], 3), (["power", "RUN"], 2)],
)
def test_no_command_hands_what_a_folder_holds_to_the_terminal(command, status, hostile_folder, monkeypatch, capfdbinary):
    monkeypatch.setattr("locus.report.figures.write", lambda *_: [])  # slow, and said in one line
    told = [{"RUN": str(hostile_folder), "TO": f"{hostile_folder}-out"}.get(one, one) for one in command]
    exit_status, written = run(monkeypatch, capfdbinary, *told)
    assert (exit_status, b"bug in locus" in written) == (status, False)
    assert clean(written)


def test_a_terminal_gets_the_colours_and_no_more():
    """In a real terminal, where rich writes sequences of its own."""
    give, take = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"} | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "locus", "audit", "--out", "x", "--config", os.fsencode(FILE)]
    process = subprocess.Popen(command, stdout=take, stderr=take, stdin=take, env=environment)
    os.close(take)
    written = b""
    while process.poll() is None or not written:
        try:
            written += os.read(give, 1 << 16)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 2
    os.close(give)
    assert b"\x1b[1;31merror:\x1b[0m" in written
    assert "\\x1b" in clean(re.sub(rb"\x1b\[[0-9;]*m|\r\n", b"", written)) and b"\x1b[31m\xe2" not in written


def consoles(colour: bool = True) -> terminal.Console:
    return terminal.Console(
        file=io.StringIO(), force_terminal=colour, width=100, markup=False, emoji=False, color_system="standard"
    )


def plain(console: terminal.Console) -> str:
    """What a console wrote, but for the sequences of rich: colours, and where a live display moves the cursor."""
    return re.sub("\x1b\\[[0-9;]*m|\x1b\\[\\?25[lh]|\x1b\\[[12][AK]|\x1b\\[2K|\r", "", console.file.getvalue())


def test_tables_show_hostile_names_spelt_out(hostile_folder):
    verdict = json.loads((RUNS / "judged" / "verdict.json").read_text())
    verdict["model"]["name"] = verdict["dataset"]["name"] = verdict["judge"]["name"] = verdict["prompt"] = TERMINAL
    for claim in verdict["claims"]:
        claim |= {"name": TERMINAL, "sentence": TERMINAL, "location": [TERMINAL]}
        for question in ("works", "special", "unique", "necessary"):
            claim[question] |= {"sentence": TERMINAL + question, "to_decide": TERMINAL}
    for kind in ("claimed", "shift", "ceiling", "random"):
        for entry in verdict[kind]:
            entry |= {"name": TERMINAL, "setting": TERMINAL, "converged": [False]}
    console = consoles()
    show.verdict_table(console, Verdict.parse(verdict), hostile_folder)
    text = plain(console)
    assert not COMMANDS.search(text) and text.count("owned") > 10 and "[bold]x" in text
    assert not any(line.startswith("verified") for line in text.splitlines())


def test_other_tables_do_as_well():
    console = consoles()
    patched = json.loads((RUNS / "patch" / "patch.json").read_text())
    for entry in patched["maps"]:
        entry |= {"warnings": [TERMINAL]}
        for one in entry["components"]:
            one |= {"name": TERMINAL, "found": True, "mean": 1.0}
    patched |= {"sentences": [TERMINAL]}
    patched["config"] |= {"model": f"{TERMINAL}; touch x", "task": "ioi"}
    show.patch_table(console, PatchRecord.parse(patched), Path(FILE))
    assert f"--model '{shown.line(TERMINAL)}; touch x'" in plain(console), "as one word of a shell"
    held = ((TERMINAL, TERMINAL),)
    show.verified_table(console, Verification("excerpt", TERMINAL, TERMINAL, TERMINAL, held, unchecked=(TERMINAL,)))
    console.print(TERMINAL, terminal.Text(TERMINAL), [TERMINAL], {TERMINAL: 1})
    console.print("[link=http://127.0.0.1/]x[/]", markup=True)
    text = plain(console)
    assert not COMMANDS.search(text) and text.count("owned") > 8 and "127.0.0.1" not in console.file.getvalue()


@pytest.mark.parametrize("colour", [True, False])
def test_progress_shows_what_it_is_told_and_what_breaks_in_spelt_out(colour, capsys):
    console = consoles(colour)
    with terminal.guarded(), progress(console) as told:
        told(TERMINAL, 0.1)
        print(TERMINAL)
        print(TERMINAL, file=sys.stderr)
        told("", 1.0)
    out, err = capsys.readouterr()
    text = plain(console) + out + err
    assert not COMMANDS.search(text) and text.count("owned") >= 3


def test_a_bug_of_ours_shows_its_message_spelt_out(monkeypatch, capfdbinary):
    monkeypatch.setattr(
        importlib.import_module("locus.calibrate.power"), "power_of", lambda *_, **__: (_ for _ in ()).throw(RuntimeError(FILE))
    )
    status, written = run(monkeypatch, capfdbinary, "power")
    assert status == 1 and "bug in locus" in clean(written) and b"owned" in written


def test_whatever_else_writes_is_spelt_out(capfdbinary):
    with terminal.guarded():
        logger = logging.getLogger("somebody")
        logger.addHandler(handler := logging.StreamHandler())
        logger.warning(TERMINAL)
        logger.removeHandler(handler)
        sys.stderr.write(ending._warning(TERMINAL, UserWarning, FILE, 1))
        print(FILE)
        sys.stderr.writelines([TERMINAL])
        sys.excepthook(RuntimeError, RuntimeError(FILE), None)
        assert not hasattr(sys.stdout, "buffer"), "no way past"
    out, err = capfdbinary.readouterr()
    assert clean(out + err).count("owned") == 6
    assert sys.stdout.buffer


# --- files for others


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder in which a run with hostile names was reported and exported, and nothing else is."""
    place = tmp_path_factory.mktemp("drawn") / "a" / "b" / "c"
    shutil.copytree(RUNS / "judged", place / "RUN")
    infest(place / "RUN", [*FORMULAE, *PATHS])
    write(place / "RUN", sign=False)
    export_scores(place / "RUN", place / "scores")
    return place


def test_every_table_of_a_run_is_free_of_formulae(drawn):
    tables = [*drawn.glob("RUN/figures/*.csv"), drawn / "scores" / "scores.csv"]
    cells = [
        (table.name, value) for table in tables for row in csv.reader(table.open(encoding="utf-8", newline="")) for value in row
    ]
    assert len(tables) > 4 and sum(value.startswith("'") for _, value in cells) > 10
    assert not [one for one in cells if one[1].startswith(FIRST) and not re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", one[1])]


def test_no_name_becomes_a_path(drawn):
    top = drawn.parents[1]
    assert {path for path in top.rglob("*") if drawn not in path.parents} == {top / "b", drawn}
    assert {path.name for path in drawn.iterdir()} == {"RUN", "scores"}
    made = [path.name for folder in ("RUN/figures", "scores") for path in (drawn / folder).iterdir()]
    assert made and all(re.fullmatch(r"[a-z][a-z0-9-]*\.(svg|pdf|png|csv|parquet|json)", name) for name in made)


def test_judgements_are_free_of_formulae_and_are_read_back_as_they_were(tmp_path):
    answers = [*FORMULAE, "plain"]
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["question", "answer", "truthful", "informative"])
        rows.writerows([f"-why {number}?", spreadsheet.cell(answer), "yes", "no"] for number, answer in enumerate(answers))
    labels = compare.read_labels(tmp_path / "labels.csv", None)
    assert [row.answer for row in labels.rows] == [answer.strip() for answer in answers]
    judge = BlindJudge()
    judge.name = "=judge"
    compare.write_comparison(compare.compare_judges([judge], labels), tmp_path / "out")
    cells = list(csv.reader((tmp_path / "out" / "judgements.csv").open(encoding="utf-8", newline="")))
    assert not any(value.startswith(FIRST) for row in cells for value in row)
    assert [spreadsheet.from_cell(row[1]) for row in cells[1:]] == [row.answer for row in labels.rows]
    assert "'=judge truth" in cells[0]


def test_a_hostile_receipt_ends_no_citation():
    evil = "x},\n evil = {\nER  - \n%0 y" + TERMINAL
    plan = PlanRecord.parse(json.loads((RUNS / "judged" / "plan.json").read_text()))
    plan = plan.model_copy(update={"sha256": evil, "model": plan.model.model_copy(update={"name": evil})})
    for receipt in ("", evil):
        for form, text in cite.forms(cited := cite.works(plan, evil, receipt)).items():
            assert not COMMANDS.search(text)
            assert len(re.findall(r"^(@|ER  - |%0 )", text, re.M)) == len(cited), form
            assert not re.search(r"^\s*evil", text, re.M)
