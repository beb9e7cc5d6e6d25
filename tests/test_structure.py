"""The tree says what the design says: imports point down the flow, modules stay small, nothing foreign slips in."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "locus"
FILES = sorted(PACKAGE.rglob("*.py"))

# Later lines may import from earlier ones, and from their own.
FLOW = [
    ["errors", "atomic", "incoming", "outputs", "settings", "shown", "sites", "spreadsheet", "terminal", "threads", "units"],
    ["own_code"],
    ["datasets", "stats", "cache", "checkpoint", "encoding", "gguf_file", "weights", "adapter", "locate", "workers"],
    ["template"],
    ["forest"],
    ["prompts", "answers", "anatomy", "attention", "norms"],
    ["model"],
    ["cost", "prefix"],
    ["edits"],
    ["forward"],
    ["activations"],
    ["claims"],
    ["config"],
    ["train", "evaluate", "judges"],
    ["trials", "store", "checks", "plan_shape"],
    ["run"],
    ["forecast"],
    ["findings"],
    ["verdict"],
    ["conclude", "diagnosis", "plan_file", "preconditions", "readable"],
    ["power"],
    ["audit", "planted", "patching", "report"],
    ["reproduce"],
    ["show", "doctor", "options"],
    ["ending", "studies", "exports", "keyring"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(FLOW) for name in names}
PEERS = {"trl", "peft", "transformer_lens", "pyvene", "nnsight", "lm_eval", "steering_vectors", "sae_lens"}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", [file for file in FILES if part(file) != "__init__"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_point_down_the_flow(path):
    mine = part(path)
    assert mine in LEVEL, f"{mine} has no place in the flow"
    for name in imports(path, top_level_only=True):
        if name.startswith("locus."):
            other = name.split(".")[1]
            if other in LEVEL and other != mine:
                assert LEVEL[other] <= LEVEL[mine], f"{mine} imports {other}, which comes after it"


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
    assert mine == "terminal.py" or not {"rich.console", "rich.text"} & imports(path)
    assert mine == "spreadsheet.py" or not re.search(r"csv\.(\w*writer|DictWriter|write_csv)", text)
    assert mine == "report/html.py" or "jinja2" not in imports(path)
    assert "markup=True" not in text and "|safe" not in text


def test_sites_need_no_torch():
    assert not any(name.startswith("torch") for name in imports(PACKAGE / "sites.py"))


def test_the_verb_is_short():
    text = (PACKAGE / "audit.py").read_text()
    function = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == "audit")
    assert function.end_lineno - function.lineno < 80


def test_every_command_has_help_and_is_in_the_readme():
    from typer.main import get_command

    from locus.cli import app

    readme = (ROOT / "README.md").read_text()
    for name, command in get_command(app).commands.items():
        assert command.help, name
        assert re.search(rf"\blocus {name}\b", readme), f"README does not mention locus {name}"


def test_the_project_speaks_of_itself_alone():
    machine = re.compile(r"/(work|root|tmp/lead)/|\.library\b")
    for path in [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]:
        assert not machine.search(path.read_text()), path


def test_every_setting_is_explained_and_the_page_of_settings_is_current():
    from locus.config import AuditConfig, settings_page

    assert all(field.description for field in AuditConfig.model_fields.values())
    assert (ROOT / "docs" / "configuration.md").read_text() == settings_page(), "write settings_page() to docs/configuration.md"
