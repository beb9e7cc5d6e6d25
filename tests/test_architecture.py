"""The page of the architecture: its picture is made from the code, its tree is the flow, and its table leads to what is there."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from tests.test_structure import FLOW

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.M)


@pytest.fixture(scope="module")
def graph():
    spec = importlib.util.spec_from_file_location("graph", ROOT / "docs" / "graph.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_the_code_says(graph):
    assert graph.PICTURE.read_text() == graph.picture(), "run: python docs/graph.py"


def test_its_rooms_are_the_flow_and_no_import_points_down(graph):
    assert graph.flow() == FLOW
    edges = graph.edges()
    assert edges["audit"] >= {"plan", "run", "conclude", "report"}  # read, not just empty
    assert not [(name, other) for name, others in edges.items() for other in others if FLOW.index(other) >= FLOW.index(name)]


def test_the_tree_has_a_line_for_every_room_in_the_order_of_the_flow():
    (tree,) = re.findall(r"^```\n(shown .*?)^```", PAGE, re.M | re.S)
    assert [line.split()[0] for line in tree.splitlines()] == FLOW


@pytest.mark.parametrize(("question", "path", "name"), ROWS, ids=lambda one: one[:40])
def test_what_the_table_names_is_there(question, path, name):
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text())))
    there = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    there |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert name in there, question


def test_the_table_is_read():
    assert len(ROWS) == sum(line.startswith("| ") and "`locus/" in line for line in PAGE.splitlines()) >= 20
