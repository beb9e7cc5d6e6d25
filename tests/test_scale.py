"""docs/scale.md: its scripts are whole, its commands are the program's own, and a pre-empted part goes on."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from locus.cli.app import app
from locus.plan.parts import Part

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "scale.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.S)
SCRIPTS = [text for kind, text in BLOCKS if kind == "bash"]
TASK = yaml.safe_load(next(text for kind, text in BLOCKS if kind == "yaml"))
PLAIN = [text for kind, text in BLOCKS if not kind]


def commands(text):
    """The program's commands in a script, with what a shell would put for its variables."""
    for name, value in {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "8", "PARTS": "8", "PART": "3"}.items():
        text = text.replace(f"${name}", value)
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"^torchrun --nproc-per-node \d -m ", "", line)
        if line.strip().startswith("locus "):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("text", [*SCRIPTS, TASK["setup"], TASK["run"]])
def test_scripts_are_whole(text):
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("text", [*SCRIPTS, *PLAIN, TASK["run"]])
def test_commands_are_the_programs_own(text):
    found = list(commands(text))
    assert found
    for name, *arguments in found:
        command = get_command(app).commands[name]
        context = command.make_context(name, arguments)  # raises for an option that there is not
        if context.params.get("part"):
            assert str(Part.parse(context.params["part"])).startswith("part ")


def test_the_array_has_as_many_tasks_as_parts_and_goes_back_into_the_queue():
    array = SCRIPTS[0]
    directives = dict(re.findall(r"#SBATCH --([\w-]+)(?:=(.*))?", array))
    first, last = map(int, directives["array"].split("-"))
    (command,) = commands(array)
    assert (first, Part.parse(command[command.index("--part") + 1]).count) == (1, last) and "requeue" in directives
    (merged,) = commands(SCRIPTS[1])
    assert merged[1 : merged.index("--out")] == [f"runs/RUN{number}" for number in range(1, last + 1)]


def test_a_task_on_spot_machines_is_begun_again():
    assert TASK["resources"]["use_spot"] and TASK["resources"]["job_recovery"]
    assert set(re.findall(r"\$(PART\w*)", TASK["run"])) == set(TASK["envs"])
