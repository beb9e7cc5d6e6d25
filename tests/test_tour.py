"""The notebook runs in a real Jupyter kernel, and ends as it is shown."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


def texts(notebook):
    """What the last cells answered, by their source."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    return {cell.source: cell.outputs[-1].get("data", {}).get("text/plain", "") for cell in cells}


@pytest.mark.slow
def test_the_tour_runs_and_ends_as_it_shows():
    notebook = nbformat.read(TOUR, as_version=4)
    shown = texts(notebook)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    found = texts(notebook)
    for part in ("claim.location.names", "run.verify().line", "standing", "changed = "):
        (cell,) = [source for source in shown if part in source]
        assert found[cell] and (found[cell].split(",")[0] == shown[cell].split(",")[0]), part
    card = next(cell for cell in notebook.cells if cell.source.startswith("run = "))
    assert any("supported" in output.get("data", {}).get("text/html", "") for output in card.outputs)
    figure = next(cell for cell in notebook.cells if "plot" in cell.source)
    assert "image/png" in figure.outputs[-1]["data"]
