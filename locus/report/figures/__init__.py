"""Figures for a paper: those of a run, and those of how often verdicts are wrong."""

from pathlib import Path

from locus import atomic
from locus.report.figures import run
from locus.report.figures.plot import save
from locus.report.material import Material


def write(material: Material, folder: Path) -> list[str]:
    """Draw every figure that a run has numbers for.

    Returns:
        Names of the figures that were written.

    Raises:
        UserError: if the folder is a link, or cannot be made.
    """
    atomic.folder(folder)
    written = []
    for drawing in run.drawings(material):
        if drawing.rows:
            save(drawing, folder)
            written.append(drawing.name)
    return written
