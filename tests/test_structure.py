"""The tree says what the design says: imports point down the flow, modules stay small, nothing foreign slips in."""

import ast
import importlib.util
import re
import subprocess
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "locus"
FILES = sorted(PACKAGE.rglob("*.py"))

# The rooms in the order of the flow: each imports from those before it and from itself, inside functions too.
FLOW = (
    "shown errors atomic registry units boundary machine stats records sites behaviours models edits engine metrics judges "
    "claims patching plan run conclude report table audit merge sweep patch reproduce calibrate door cli __main__"
).split()
LEVEL = {name: level for level, name in enumerate(FLOW)}
PEERS = {"trl", "peft", "transformer_lens", "pyvene", "nnsight", "lm_eval", "steering_vectors", "sae_lens"}
PEERS |= {"inspect_ai", "securesystemslib", "in_toto_attestation", "mlcroissant"}


def imports(path: Path) -> set[str]:
    """Every module or name of a module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """What each module imports of the others. The front door, which shows every room, is none of them."""
    modules = {module(path): path for path in FILES if path != PACKAGE / "__init__.py"}
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = edges.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # "from room import module" asks for the module, not for what the room's __init__ names.
                full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                found |= {one if one in modules else node.module for one in full.values()}
    return {name: (found & modules.keys()) - {name} for name, found in edges.items()}


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_a_room_imports_only_from_rooms_before_it():
    wrong = []
    for name, others in graph().items():
        mine = name.split(".")[1]
        assert mine in LEVEL, f"{mine} has no place in the flow"
        wrong += [f"{name} imports {other}" for other in others if LEVEL[other.split(".")[1]] > LEVEL[mine]]
    assert not wrong


def test_imports_have_no_circle():
    # A package stands for what its __init__ imports; its own modules may import one another, not the package.
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 60, node.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_peer_is_imported_and_every_module_says_its_idea(path):
    allowed = {"peft"} if path.name == "adapter.py" else set()  # it merges what it made itself
    assert not {name.split(".")[0] for name in imports(path)} & (PEERS - allowed)
    assert ast.get_docstring(ast.parse(path.read_text())), "a module begins with its idea"
    assert path.name != "utils.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_is_shown_in_one_place(path):
    """Terminals through terminal.py, spreadsheets through spreadsheet.py, pages through html.py: none can forget to escape."""
    text, mine = path.read_text(), path.relative_to(PACKAGE).as_posix()
    assert mine == "boundary/terminal.py" or not {"rich.console", "rich.text"} & imports(path)
    assert mine == "boundary/spreadsheet.py" or not re.search(r"csv\.(\w*writer|DictWriter|write_csv)", text)
    assert mine == "report/html.py" or "jinja2" not in imports(path)
    assert "markup=True" not in text and "|safe" not in text


def test_sites_need_no_torch():
    assert not any(name.startswith("torch") for name in imports(PACKAGE / "sites" / "site.py"))


def test_the_verb_is_short():
    text = (PACKAGE / "audit.py").read_text()
    function = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "audit")
    assert function.end_lineno - function.lineno < 80


def test_every_command_has_help_and_is_in_the_readme():
    from typer.main import get_command

    from locus.cli.app import app

    readme = (ROOT / "README.md").read_text()
    for name, command in get_command(app).commands.items():
        assert command.help, name
        if command.hidden:
            continue  # a former name
        assert re.search(rf"\blocus {name}\b", readme), f"README does not mention locus {name}"


def test_the_project_speaks_of_itself_alone():
    machine = re.compile(r"/(work|root|tmp/lead)/|\.library\b")
    for path in [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]:
        assert not machine.search(path.read_text()), path


def test_no_link_is_kept_and_nothing_that_is_made_anew():
    """A link to a maker's environment would stand in the place of the user's own."""
    if not (ROOT / ".git").exists():
        pytest.skip("no repository: what it keeps cannot be listed")

    def listed(*options: str) -> list[str]:
        told = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=True)
        return told.stdout.splitlines()

    assert not [line for line in listed("--stage") if line.startswith("120000")]
    assert listed() and not listed("--cached", "--ignored", "--exclude-standard")


def test_every_setting_is_explained_and_the_page_of_settings_is_current():
    from locus.plan.config import AuditConfig
    from locus.plan.settings_page import settings_page

    assert all(field.description for field in AuditConfig.model_fields.values())
    assert (ROOT / "docs" / "configuration.md").read_text() == settings_page(), "write settings_page() to docs/configuration.md"


SPOKEN = re.compile(r"from (locus[\w.]*) import ([\w, ]+)")


@pytest.mark.parametrize("path", ["Makefile", ".ci/run", "README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_what_is_imported_outside_of_python_files_exists(path):
    for module, names in SPOKEN.findall((ROOT / path).read_text()):
        there = importlib.import_module(module)
        for name in names.split(","):
            assert hasattr(there, name.strip()) or importlib.util.find_spec(f"{module}.{name.strip()}"), (path, module, name)


def test_the_python_lines_of_the_makefile_are_read():
    assert SPOKEN.findall((ROOT / "Makefile").read_text())
