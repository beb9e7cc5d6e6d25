"""Figures of a patching run: maps of layers by heads or positions, detected components with intervals, agreement of maps."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from locus import atomic
from locus.records.patch import ComponentEffect, MapRecord, PatchRecord
from locus.report.figures.plot import Drawing, brief, save
from locus.shown import visible

FOUND, HELD_OUT = "#D55E00", "#0072B2"
MOST = 30  # components in one figure
Rows = list[tuple[Any, ...]]
BRIEF = {"token replacement": "replaced", "Gaussian noise": "noise", "logit difference": "LD", "probability": "P"}


class Drawn(NamedTuple):
    """A figure that was drawn.

    Attributes:
        name: of its files.
        caption: what it shows.
        map: number of the map; empty where it is of several.
    """

    name: str
    caption: str
    map: str


def write(record: PatchRecord, folder: Path) -> list[Drawn]:
    """Draw every figure.

    Args:
        record: of the run.
        folder: where to.

    Returns:
        What was drawn.
    """
    atomic.folder(folder)
    figures_drawn = []
    for number, entry in enumerate(record.maps):
        if entry.width > 1:
            continue  # windows are a table: their figure would say little more than that of single layers
        for drawing, caption in (*_maps(entry, number), *([_detected(entry, number)] if number == 0 else [])):
            if drawing.rows:
                save(drawing, folder)
                figures_drawn.append(Drawn(drawing.name, caption, str(number)))
    for drawing, caption in _agreement(record):
        save(drawing, folder)
        figures_drawn.append(Drawn(drawing.name, caption, ""))
    return figures_drawn


def _drawing(name: str, columns: tuple[str, ...], rows: Rows, height: float, draw: Callable[[Axes, Rows], None]) -> Drawing:
    """A figure of one panel."""
    return Drawing(name, columns, rows, height, lambda panels, rows: draw(panels[0], rows))


def _maps(entry: MapRecord, number: int) -> list[tuple[Drawing, str]]:
    """Layer by head, one figure a position; or layer by position; or effects by layer."""
    components = [one for one in entry.components if one.mean is not None]
    positions = list(dict.fromkeys(one.position for one in components))
    columns = ("layer", "place", "effect", "found")
    name, what = f"map-{number}", entry.label
    if any(one.head is not None for one in components):
        made = []
        for at, position in enumerate(positions):
            rows = [_cell(one, one.head or 0) for one in components if one.position == position]
            where = "" if position is None else f" at {position}"
            drawing = _drawing(name if at == 0 else f"{name}-{at + 1}", columns, rows, _height(rows), _grid("head"))
            made.append((drawing, f"Effect of every head{where}: {what}. Outlined: found."))
        return made
    if len(positions) > 1:
        rows = [_cell(one, positions.index(one.position)) for one in components]
        drawing = _drawing(name, columns, rows, _height(rows), _grid("position", [brief(one) for one in positions]))
        return [(drawing, f"Effect by layer and position: {what}. Outlined: found.")]
    rows = [(one.layer, one.name, one.mean, one.low, one.high, int(one.found)) for one in components]
    drawing = _drawing(name, ("layer", "component", "effect", "low", "high", "found"), rows, 1.9, _by_layer)
    return [(drawing, f"Effect by layer, with intervals: {what}. Filled: found.")]


def _cell(one: ComponentEffect, place: int) -> tuple[Any, ...]:
    return one.layer, place, one.mean, int(one.found)


def _height(rows: Rows) -> float:
    return min(6.0, 0.9 + 0.11 * (1 + max((row[0] for row in rows), default=0)))


def _grid(what: str, names: Sequence[str] = ()) -> Callable[[Axes, Rows], None]:
    """Draw a matrix of effects, blue against the answer and red for it."""

    def draw(axes: Axes, rows: Rows) -> None:
        layers, width = 1 + max(row[0] for row in rows), 1 + max(row[1] for row in rows)
        values = [[float("nan")] * width for _ in range(layers)]
        for layer, place, mean, _ in rows:
            values[layer][place] = mean
        reach = max(abs(row[2]) for row in rows) or 1.0
        axes.set_facecolor("#F2F2F2")
        image = axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
        if axes.figure is not None:
            axes.figure.colorbar(image, ax=axes, label="effect", shrink=0.8)
        places = [(row[1], row[0]) for row in rows if row[3]]
        if places:
            xs, ys = zip(*places, strict=True)
            axes.scatter(xs, ys, s=24, marker="s", facecolors="none", edgecolors="#000000", linewidths=0.9)
        axes.set_xlabel(what)
        axes.set_ylabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if names:
            axes.set_xticks(range(len(names)), list(names), rotation=90)

    return draw


def _by_layer(axes: Axes, rows: Rows) -> None:
    for at, (_, _, mean, low, high, here) in enumerate(rows):
        axes.plot([at, at], [low, high], color=FOUND, linewidth=1)
        axes.plot([at], [mean], marker="o", markersize=3.5, color=FOUND, markerfacecolor=FOUND if here else "white")
    axes.axhline(0, color="#7F7F7F", linewidth=0.6)
    axes.set_xlabel("component, in order of layers")
    axes.set_ylabel("effect")


def _detected(entry: MapRecord, number: int) -> tuple[Drawing, str]:
    """Found components in order of size: all examples, and the other half where one half finds them too."""
    here, held = entry.strongest[:MOST], entry.halves.held_out
    rows = [(one.name, one.mean, one.low, one.high, *held.get(one.name, (None,) * 3)) for one in here]

    def draw(axes: Axes, rows: Rows) -> None:
        for y, row in enumerate(reversed(rows)):
            _interval(axes, y + 0.12, row[1:4], FOUND, "D", "all examples" if y == 0 else "_")
            if row[4] is not None:
                _interval(axes, y - 0.12, row[4:7], HELD_OUT, "o", "_")
        axes.axvline(0, color="#7F7F7F", linewidth=0.6)
        axes.plot([], [], marker="o", color=HELD_OUT, markersize=3.5, label="found in one half, effect in the other")
        axes.set_yticks(range(len(rows)), [brief(row[0]) for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("effect")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    columns = ("component", "effect", "low", "high", "held out effect", "held out low", "held out high")
    drawing = _drawing(f"detected-{number}", columns, rows, 0.75 + 0.16 * len(rows), draw)
    return drawing, f"Components found, with intervals: {entry.label}."


def _interval(axes: Axes, y: float, ends: tuple[float, float, float], colour: str, marker: str, name: str) -> None:
    mean, low, high = ends
    axes.plot([low, high], [y, y], color=colour, linewidth=1)
    axes.plot([mean], [y], marker=marker, color=colour, markersize=3.5, label=name)


def _agreement(record: PatchRecord) -> list[tuple[Drawing, str]]:
    """One matrix a family of comparable maps: Jaccard of what they find."""
    drawings = []
    families = dict.fromkeys((entry.site, entry.width) for entry in record.maps)
    for site, width in families:
        names = [entry.label for entry in record.maps if (entry.site, entry.width) == (site, width)]
        values = {(row.a, row.b): row.jaccard for row in record.agreement}
        rows: Rows = [
            (names.index(a), names.index(b), _or_nan(value), a, b)
            for (a, b), value in values.items()
            if a in names and b in names
        ]
        if not rows:
            continue

        def draw(axes: Axes, rows: Rows, names: list[str] = names, site: str = site) -> None:
            grid = [[1.0 if x == y else math.nan for x in range(len(names))] for y in range(len(names))]
            for one, two, value, *_ in rows:
                grid[one][two] = grid[two][one] = value
            image = axes.imshow(grid, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
            axes.set_facecolor("#F2F2F2")
            if axes.figure is not None:
                axes.figure.colorbar(image, ax=axes, label="Jaccard", shrink=0.8)
            short = [visible(_brief(name.rsplit(f", {site}", 1)[0]), 80) for name in names]
            axes.set_xticks(range(len(names)), [str(at + 1) for at in range(len(names))])
            axes.set_yticks(range(len(names)), [f"{name}  {at + 1}" for at, name in enumerate(short)])

        name = f"agreement-{site}" + (f"-{width}" if width > 1 else "")
        drawing = _drawing(name, ("row", "column", "jaccard", "a", "b"), rows, 0.6 + 0.13 * len(names), draw)
        drawings.append((drawing, f"Jaccard of what the maps of {site} find{f', windows of {width}' if width > 1 else ''}."))
    return drawings


def _brief(name: str) -> str:
    """A setting short enough to stand beside a matrix."""
    for long, short in BRIEF.items():
        name = name.replace(long, short)
    return name


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
