"""Geometry of the page's own charts: rows of means with intervals on one axis, as numbers a template draws.

Labels stand above their rows, so that a chart keeps its full width on a phone.
"""

import math
from dataclasses import dataclass

from locus.metrics.base import metric as metric_named
from locus.records.findings import ClaimVerdict
from locus.records.verdict import Gain
from locus.report.material import Material
from locus.report.places import Place
from locus.report.words import counted, steered
from locus.shown import visible
from locus.units import amount, difference, is_share

WIDTH, SIDE, ROW, TOP = 400.0, 14.0, 42.0, 8.0


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers within [low, high]."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step: float = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class ChartRow:
    """A mean with an interval, and the dots of the places that it is a mean of."""

    label: str
    kind: str
    mean: float
    low: float
    high: float
    n: int
    dots: tuple[float, ...] = ()


@dataclass(frozen=True)
class DrawnRow:
    """A row where it is drawn, in units of the drawing; `text` is its mean as a reader sees it."""

    label: str
    kind: str
    y: float
    x: float
    x0: float
    x1: float
    dots: list[tuple[float, float]]
    text: str


@dataclass(frozen=True)
class Band:
    """From where on an edit is as good as the ceiling, to the drawing's edge."""

    x: float
    width: float


@dataclass(frozen=True)
class Tick:
    """A mark of the axis."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Where everything is drawn; `base` is the mean of no edit."""

    width: float
    height: float
    top: float
    bottom: float
    rows: list[DrawnRow]
    ticks: list[Tick]
    base: float | None
    zone: Band | None


def place_row(label: str, kind: str, place: Place, metric: str) -> ChartRow | None:
    """A row with a mean and the interval of its difference from no edit; None where the metric was not measured."""
    if (mean := place.mean(metric)) is None:
        return None
    low, high = place.ends(metric) if place.gain else (mean, mean)
    return ChartRow(label, kind, mean, low, high, place.measures[metric].n)


def verdict_rows(material: Material, claim: ClaimVerdict) -> list[ChartRow]:
    """What carries a verdict: the claim and the ceiling against the distribution of random Locations."""
    metric, places, name = material.verdict.metric, material.places, visible(claim.name, 24)

    def mine(kind: str) -> list[Place]:
        return [place for place in places[kind] if place.read in (claim.read, "") and place.claim == claim.name]

    rows = [place_row("no edit", "base", place, metric) for place in places["base"]]
    for place in mine("shift"):
        rows.append(place_row(steered(place.name, visible(place.setting, 24), "the claim"), "shift", place, metric))
    rows += [place_row("optimal edit everywhere but there", "complement", place, metric) for place in mine("complement")]
    random = [place_row("", "random", place, metric) for place in mine("random")]
    means = tuple(sorted(row.mean for row in random if row))
    if means:
        label = f"optimal edits at {counted(len(means), 'random Location')}"
        rows.append(ChartRow(label, "random", math.fsum(means) / len(means), means[0], means[-1], len(means), means))
    rows += [place_row(f"optimal edit at the claim ({name})", "claim", place, metric) for place in mine("claimed")]
    inner = material.verdict.gain is not None and material.verdict.gain.inner
    label = "everywhere: its own search" if inner else "ceiling: optimal edit everywhere"
    rows += [place_row(label, "ceiling", place, metric) for place in places["ceiling"]]
    return [row for row in rows if row]


def bound(rows: list[ChartRow], claim: ClaimVerdict, gain: Gain | None) -> float | None:
    """Where being as good as the ceiling begins: its mean less the margin; None where no margin was drawn.

    Args:
        rows: as `verdict_rows` gives them.
        claim: whose margin it is.
        gain: the ceiling's, whose edit may be that of a place inside it.
    """
    margin = claim.works.margin
    means = [row.mean for row in rows if row.kind == "ceiling"]
    if gain is not None and gain.inner and gain.estimate is not None:
        means = [row.mean + gain.estimate for row in rows if row.kind == "base"]
    return None if margin is None or not means else float(max(means) - margin)


def layout(rows: list[ChartRow], metric: str, good: float | None = None) -> Chart | None:
    """Positions of everything drawn, in units of a 400-wide drawing; None where there is nothing to draw.

    Args:
        rows: as `verdict_rows` gives them.
        metric: what is drawn.
        good: from where on an edit is as good as the ceiling.
    """
    if not rows:
        return None
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    room: float = 0.06 * (high - low) or 0.05
    low, high = low - room, high + room

    def x(value: float) -> float:
        return float(round(SIDE + (WIDTH - 2 * SIDE) * (value - low) / (high - low), 1))

    placed = []
    for number, row in enumerate(rows):
        y = TOP + ROW * number + 28
        dots = [(x(value), round(y + (-6, 0, 6)[index % 3], 1)) for index, value in enumerate(row.dots)]
        text = (difference if metric_named(metric).of_base else amount)(row.mean, metric)
        placed.append(DrawnRow(row.label, row.kind, y, x(row.mean), x(row.low), x(row.high), dots, text))
    bottom = TOP + ROW * len(rows) + 8
    base = next((row.x for row in placed if row.kind == "base"), None)
    tolerated_band = None if good is None else Band(x(max(good, low)), round(WIDTH - SIDE - x(max(good, low)), 1))
    marks = [Tick(x(tick), _tick(tick, metric)) for tick in ticks(low, high)]
    return Chart(WIDTH, bottom + 34, TOP, bottom, placed, marks, base, tolerated_band)


def _tick(value: float, metric: str) -> str:
    return f"{100 * value:.4g}" if is_share(metric) else f"{value:.4g}"


def described(rows: list[ChartRow], metric: str) -> str:
    """A chart in words, for those who do not see it."""
    parts = []
    for row in rows:
        span = f"{amount(row.low, metric)} to {amount(row.high, metric)}"
        parts.append(f"{row.label}: {amount(row.mean, metric)} ({span})")
    return "; ".join(parts) + "."
