"""One style for every figure, sized for a paper column, saved as SVG, PDF, PNG and the CSV it was drawn from.

Colours are Okabe and Ito's, told apart by the colour-blind; shapes repeat what colours say. The same rows give the same bytes.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from locus import atomic
from locus.boundary.spreadsheet import write_csv
from locus.metrics.base import metric
from locus.report.words import steering
from locus.shown import visible
from locus.units import is_share

COLUMN, PAGE = 3.3, 6.9  # inches: one column of a paper, and both
STYLE: Any = {
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "locus",
    "pdf.fonttype": 42,
    # A name with a dollar sign or a backslash is a name, whatever the user's own settings are.
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "path",
}
LOOK = {
    "base": ("#000000", "o"),
    "shift": ("#CC79A7", "v"),
    "shift-random": ("#7F7F7F", "v"),
    "shift-everywhere": ("#0072B2", "v"),
    "complement": ("#009E73", "^"),
    "random": ("#7F7F7F", "o"),
    "single": ("#7F7F7F", "o"),
    "claim": ("#D55E00", "D"),
    "ceiling": ("#0072B2", "s"),
}
CALLED = {
    "base": "no edit",
    "shift": "ITI at the claim",
    "shift-random": "ITI at random Locations",
    "shift-everywhere": "ITI everywhere",
    "random": "optimal, random Locations",
    "single": "optimal, single sites",
    "claim": "optimal, the claim",
    "ceiling": "optimal, everywhere",
    "complement": "optimal, all but the claim",
}
UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Drawing:
    """A figure: its name, the rows it is drawn from, and how they are drawn on its panels, side by side.

    Attributes:
        name: of its files.
        columns: of the rows.
        rows: all that is drawn.
        height: in inches.
        draw: given the panels and the rows.
        panels: one or two share a paper's column; three take both.
    """

    name: str
    columns: tuple[str, ...]
    rows: Rows
    height: float
    draw: Callable[[Sequence[Axes], Rows], None]
    panels: int = 1

    def __post_init__(self) -> None:
        """Whatever is drawn or written of a row is harmless; a name is never made of what a stranger wrote."""
        assert re.fullmatch("[a-z0-9-]+", self.name), self.name
        object.__setattr__(self, "rows", [tuple(_visible(value) for value in row) for row in self.rows])


class Picture(Figure):
    """A figure that looks the same wherever it is drawn, and that a notebook shows whatever its backend."""

    def _repr_png_(self) -> bytes:
        drawn_as = io.BytesIO()
        self.savefig(drawn_as, format="png", dpi=150)
        return drawn_as.getvalue()

    def savefig(self, fname: Any, **how: Any) -> None:
        """As matplotlib does, in this style."""
        with matplotlib.rc_context(STYLE):
            super().savefig(fname, **how)


def picture_of(drawing: Drawing) -> Picture:
    """A figure as matplotlib has it, drawn on no screen."""
    with matplotlib.rc_context(STYLE):
        width = COLUMN if drawing.panels < 3 else PAGE
        figure = Picture(figsize=(width, drawing.height), layout="constrained")
        drawing.draw([figure.add_subplot(1, drawing.panels, 1 + place) for place in range(drawing.panels)], drawing.rows)
        return figure


def save(drawing: Drawing, folder: Path) -> None:
    """Write one figure in its four forms."""
    figure = picture_of(drawing)
    for ending, metadata in UNDATED.items():
        written = io.BytesIO()
        figure.savefig(written, format=ending, dpi=300, metadata=metadata)
        atomic.replace(folder / f"{drawing.name}.{ending}", written.getvalue())
    write_csv(folder / f"{drawing.name}.csv", drawing.columns, drawing.rows)


def _visible(value: Any) -> Any:
    return visible(value, 200) if isinstance(value, str) else value


def scale(metric: str) -> float:
    """From a stored value to what is drawn: percent where the measure is a share."""
    return 100.0 if is_share(metric) else 1.0


def axis(measure: str) -> str:
    """What an axis of a metric says."""
    return metric(measure).axis


def called(kind: str, arm: str = "") -> str:
    """A kind of place in words; of an edit that is not trained, by the name of its arm, which one it is."""
    return CALLED[kind].replace("ITI", steering(arm), 1) if kind.startswith("shift") and arm else CALLED[kind]


def brief(label: Any, width: int = 40) -> str:
    """A label that leaves room for the figure."""
    text = visible(label)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def points(axes: Axes, kind: str, xy: Sequence[tuple[float, float]], line: str = "", label: str = "") -> None:
    """Points of one kind, in order of x, joined if `line` is a line style; named in the legend."""
    defined = sorted(one for one in xy if None not in one)
    if defined:
        colour, marker = LOOK[kind]
        xs, ys = zip(*defined, strict=True)
        name = label or CALLED[kind]
        axes.plot(xs, ys, marker=marker, color=colour, linestyle=line, linewidth=0.8, markersize=3, markeredgewidth=0, label=name)


def intervals(axes: Axes, rows: Rows, label: str) -> None:
    """Rows of (label, kind, mean, low, high), the first on top."""
    for y, (_, kind, mean, low, high) in enumerate(reversed(rows)):
        colour, marker = LOOK[kind]
        if kind == "random":
            axes.plot([mean, mean], [y - 0.32, y + 0.32], color=colour, linewidth=1.4)
        else:
            axes.plot([low, high], [y, y], color=colour, linewidth=1.4, solid_capstyle="round")
            axes.plot([mean], [y], marker=marker, color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.4)
    axes.set_yticks(range(len(rows)), [brief(row[0]) for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)


def legend(axes: Axes) -> None:
    """What the kinds are, above all panels, so that it covers nothing."""
    if axes.figure is not None and axes.get_legend_handles_labels()[0]:
        axes.figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside upper center",
            ncols=3,
            frameon=False,
            columnspacing=1.2,
            handlelength=1.6,
        )


def drift_axis(axes: Axes) -> None:
    """KL on x: from nothing to a lot, so logarithmic but for the least."""
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_xticks([0, 1e-3, 1e-2, 1e-1, 1, 10], ["0", ".001", ".01", ".1", "1", "10"])
    axes.minorticks_off()
    axes.set_xlabel(axis("kl"))
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -2e-4), 1.5 * high)  # the last point whole
