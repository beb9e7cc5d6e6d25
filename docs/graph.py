"""The picture of docs/architecture.md: which room imports from which, read from the code. `python docs/graph.py` writes it anew.

A row imports from the columns that are filled in it. Rooms stand in the order of the flow (FLOW in tests/test_structure.py),
so no import points down exactly where all that is filled lies left of the diagonal.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "locus"
PICTURE = ROOT / "docs" / "figures" / "rooms.svg"
CELL, LEFT, TOP, EDGE, SLANT = 22, 96, 96, 8, 32  # SLANT: of the last column's name
INK, FILLED, DIAGONAL, GRID = "#1f2328", "#2f6f9f", "#d0d7de", "#eaeef2"


def flow() -> list[str]:
    """The rooms in their order, as the structure test has it."""
    for node in ast.parse((ROOT / "tests" / "test_structure.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FLOW":
            split = node.value  # "a b c".split()
            assert isinstance(split, ast.Call) and isinstance(split.func, ast.Attribute)
            return str(ast.literal_eval(split.func.value)).split()
    raise ValueError("tests/test_structure.py has no FLOW")


def room(path: Path) -> str:
    """The room that a file of the package lies in: a folder, or a module beside the folders."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a file imports from, inside functions too; its own is left out."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("locus.")} - {room(path)}


def edges() -> dict[str, set[str]]:
    """Room -> the rooms that it imports from. The package's own __init__, which shows every room, is none of them."""
    rooms = flow()
    found: dict[str, set[str]] = {name: set() for name in rooms}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != PACKAGE / "__init__.py":
            found[room(path)] |= imported(path) & set(rooms)
    return found


def picture() -> str:
    """The SVG."""
    rooms, found = flow(), edges()
    side = CELL * len(rooms)
    width, height = LEFT + side + SLANT, TOP + side + EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="Helvetica, Arial, sans-serif" font-size="12" fill="{INK}">',
        "<title>Which room imports from which: every import lies left of the diagonal</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, name in enumerate(rooms):
        at, middle = place * CELL, place * CELL + CELL // 2
        lines += [
            f'<path d="M{LEFT} {TOP + at}h{side}M{LEFT + at} {TOP}v{side}" stroke="{GRID}"/>',
            f'<text x="{LEFT - 6}" y="{TOP + middle + 4}" text-anchor="end">{name}</text>',
            f'<text transform="translate({LEFT + middle + 4} {TOP - 6}) rotate(-60)">{name}</text>',
            _cell(place, place, DIAGONAL, name),
        ]
    for row, name in enumerate(rooms):
        lines += [_cell(row, rooms.index(one), FILLED, f"{name} imports {one}") for one in sorted(found[name], key=rooms.index)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _cell(row: int, column: int, colour: str, title: str) -> str:
    x, y = LEFT + column * CELL + 2, TOP + row * CELL + 2
    return f'<rect x="{x}" y="{y}" width="{CELL - 4}" height="{CELL - 4}" rx="3" fill="{colour}"><title>{title}</title></rect>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
