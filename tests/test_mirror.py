"""The command line and the library mirror each other: one table of pairs, compared parameter by parameter."""

import importlib
import inspect
from dataclasses import dataclass, field

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import locus
from locus import registry
from locus.cli.app import app
from locus.errors import UserError

COMMANDS = get_command(app).commands
RUNNER = CliRunner()


@dataclass(frozen=True)
class Pair:
    """A command and what it calls.

    Attributes:
        library: `module:name` of the function.
        command: parameters that only the command has, each with the reason.
        function: parameters that only the function has, each with the reason.
        defaults: parameters whose defaults differ, each with the reason.
    """

    library: str
    command: dict[str, str] = field(default_factory=dict)
    function: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)


EXCHANGE = {"exchange": "the library takes exchange:NAME"}
BAR = {"progress": "a command shows its bar; who wants silence turns standard error away"}
PAIRS = {
    "audit": Pair(
        "locus:audit",
        command={
            **EXCHANGE,
            "ray_address": "the setting executor='ray:ADDRESS'",
            "repeat": "locus.repeat, which gives several runs",
        },
        function=BAR,
        defaults={"out": "a command that ends has no object to find its temporary folder by"},
    ),
    "merge": Pair("locus:merge"),
    "probe": Pair(
        "locus:probe",
        command={**EXCHANGE, "top": "how much is printed", "save": "the claim's own method, save"},
        function=BAR,
    ),
    "patch": Pair("locus:patch", function=BAR, defaults={"out": "as of audit"}),
    "plan": Pair("locus:plan", command=EXCHANGE, function=BAR),
    "verify": Pair("locus:verify", function=BAR),
    "export": Pair("locus:export"),
    "report": Pair(
        "locus:Run.report",
        command={"runs": "self, and those that it is compared with"},
        function={"self": "the first of runs"},
        defaults={"compare": "a flag beside the runs; a list of them"},
    ),
    "sweep": Pair(
        "locus:sweep",
        command={"ray_address": "as of audit"},
        function={**BAR, **dict.fromkeys(("models", "behaviours", "claims", "seeds"), "a command reads them from its file")},
        defaults={"file": "the library also takes what would stand in it", "out": "as of audit"},
    ),
    "forecast": Pair(
        "locus:forecast",
        command=dict.fromkeys(("claim_size", "random"), "a setting"),
        function={**BAR, "also": "a setting, by --set"},
        defaults={"devices": "the command's own, where none is named"},
    ),
    "power": Pair("locus:power", command={"out": "the numbers are what the function gives"}),
    "calibrate": Pair("locus:calibrate", function=BAR),
    "list": Pair("locus.registry:entries"),
}


def function(pair):
    module, _, path = pair.library.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def defaults(called):
    """Parameter -> default; several values that were not given are None or (), a list of settings is `**settings`."""
    found = {}
    for name, one in inspect.signature(called).parameters.items():
        empty = one.default is inspect.Parameter.empty
        found[name] = "required" if empty and one.kind is not one.VAR_KEYWORD else None if empty else one.default
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_a_command_and_its_function_have_the_same_parameters_and_defaults(name):
    pair = PAIRS[name]
    theirs, ours = defaults(COMMANDS[name].callback), defaults(function(pair))
    assert set(theirs) - set(ours) == set(pair.command), "parameters that only the command has"
    assert set(ours) - set(theirs) == set(pair.function), "parameters that only the function has"
    differ = {one for one in theirs.keys() & ours if theirs[one] != ours[one]}
    assert differ == set(pair.defaults), {one: (theirs[one], ours[one]) for one in differ}


def test_every_command_over_the_library_is_a_pair():
    other = {"doctor", "judge", "keys", "reproduce", "claims", "behaviours", "table"}
    assert set(COMMANDS) - other == set(PAIRS)


def test_commands_are_thin():
    for name in PAIRS.keys() & COMMANDS.keys():
        lines = inspect.getsource(COMMANDS[name].callback).split('"""')[-1].strip().splitlines()
        assert len(lines) <= 17, name


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (["audit", "--out", "X", "--model", "nowhere/"], lambda: locus.audit("nowhere/", out="X")),
        (["audit", "--out", "X", "--set", "nonsense=3"], lambda: locus.audit(out="X", nonsense=3)),
        (["audit", "--out", "X", "--random", "3"], lambda: locus.audit(out="X", random=3)),
        (["probe", "--data", "nowhere.jsonl"], lambda: locus.probe(behaviour="nowhere.jsonl")),
        (["probe", "--kind", "tail"], lambda: locus.probe(kind="tail")),
        (["plan", "--claim", "0.x"], lambda: locus.plan(claim="0.x")),
        (["patch", "--out", "X", "--task", "nothing"], lambda: locus.patch(out="X", task="nothing")),
        (["verify", "nowhere"], lambda: locus.verify("nowhere")),
        (["export", "nowhere", "--to", "X", "--as", "rtf"], lambda: locus.export("nowhere", "X", form="rtf")),
        (["power", "--random", "2"], lambda: locus.power(random=2)),
        (["list", "metric"], lambda: registry.entries("metric")),
        (["calibrate", "--out", "X", "--kinds", "odd"], lambda: locus.calibrate("X", kinds="odd")),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_what_is_wrong_is_said_in_the_same_words(command, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    done = RUNNER.invoke(app, command)
    said.append(str(done.exception))
    with pytest.raises(UserError) as error:
        call()
    assert type(done.exception) is type(error.value) and said == [str(error.value)]


def test_set_takes_settings_alone(tmp_path):
    done = RUNNER.invoke(app, ["audit", "--out", str(tmp_path / "X"), "--set", "progress=false"])
    assert isinstance(done.exception, UserError) and "a setting's name" in str(done.exception)
    done = RUNNER.invoke(
        app, ["plan", "--model", "planted:localized:3", "--claim", "1.1", "--set", "preset=standard", "--random", "19"]
    )
    assert done.exit_code == 0 and "Plan: " in done.stdout


def test_probe_prints_every_head_that_it_claims_and_where_they_were_saved(tmp_path):
    saved = tmp_path / "claim.json"
    done = RUNNER.invoke(app, ["probe", "--model", "planted:decoy:3", "--top", "1", "--size", "3", "--save", str(saved)])
    heads = locus.claim(str(saved)).location.names
    assert len(heads) == 3 and all(head in done.stdout.partition("holds")[0] for head in heads)
    assert f"claimed heads: {', '.join(heads)}." in done.stdout


def test_the_former_name_of_probe_works_with_a_note(capfd):
    done = RUNNER.invoke(app, ["claims", "--model", "planted:localized:3", "--top", "1"])
    assert done.exit_code == 0 and "1.1" in done.stdout
    assert "now called locus probe" in done.output + capfd.readouterr().err
