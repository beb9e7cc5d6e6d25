"""Geometry of the page's own charts: rows of means with intervals on one axis, as numbers a template draws.

Labels stand above their rows, so that a chart keeps its full width on a phone.
"""

import math
from typing import Any

from locus.metrics.base import metric as metric_named
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


def entry_row(label: str, kind: str, entry: dict[str, Any], metric: str) -> dict[str, Any] | None:
    """A row with a mean and the interval of its difference from no edit; None where the metric was not measured."""
    value = entry.get(metric)
    if not value or value["mean"] is None:
        return None
    low, high = ends(entry, metric) if entry.get("gain") else (value["mean"], value["mean"])
    return {"label": label, "kind": kind, "mean": value["mean"], "low": low, "high": high, "dots": [], "n": value["n"]}


def ends(entry: dict[str, Any], metric: str) -> tuple[float, float]:
    """An interval about a mean: of its difference from no edit where that was measured in this metric, else of itself."""
    mean, gain = entry[metric]["mean"], entry.get("gain")
    if gain and gain["metric"] == metric and all(math.isfinite(one) for one in (gain["mean"], *gain["interval"])):
        low, high = (mean + end - gain["mean"] for end in gain["interval"])
    else:
        low, high = (mean if one is None else one for one in entry[metric]["interval"])
    return low, high


def verdict_rows(found: dict[str, Any], claim: dict[str, Any]) -> list[dict[str, Any]]:
    """What carries a verdict: the claim and the ceiling against the distribution of random Locations."""
    metric, read, name = found["metric"], claim["read"], visible(claim["name"], 24)

    def mine(kind: str) -> list[dict[str, Any]]:
        return [entry for entry in found[kind] if entry["read"] in (read, "") and entry["claim"] == claim["name"]]

    rows = [entry_row("no edit", "base", entry, metric) for entry in found["baseline"]["base"]]
    for entry in mine("shift"):
        label = steered(entry["name"], visible(entry["setting"], 24), "the claim")
        rows.append(entry_row(label, "shift", entry, metric))
    rows += [entry_row("optimal edit everywhere but there", "complement", entry, metric) for entry in mine("complement")]
    places = [entry_row("", "random", entry, metric) for entry in mine("random")]
    means = sorted(place["mean"] for place in places if place)
    if means:
        label = f"optimal edits at {counted(len(means), 'random Location')}"
        whole = {"label": label, "kind": "random", "mean": math.fsum(means) / len(means)}
        rows.append({**whole, "low": means[0], "high": means[-1], "dots": means, "n": len(means)})
    rows += [entry_row(f"optimal edit at the claim ({name})", "claim", entry, metric) for entry in mine("claimed")]
    rows += [entry_row("ceiling: optimal edit everywhere", "ceiling", entry, metric) for entry in found["ceiling"]]
    return [row for row in rows if row]


def bound(rows: list[dict[str, Any]], claim: dict[str, Any]) -> float | None:
    """Where being as good as the ceiling begins: its mean less the margin; None where no margin was drawn."""
    margin = claim["works"].get("margin")
    means = [row["mean"] for row in rows if row["kind"] == "ceiling"]
    return None if margin is None or not means else float(max(means) - margin)


def layout(rows: list[dict[str, Any]], metric: str, good: float | None = None) -> dict[str, Any] | None:
    """Positions of everything drawn, in units of a 400-wide drawing; None where there is nothing to draw.

    Args:
        rows: as `verdict_rows` gives them.
        metric: what is drawn.
        good: from where on an edit is as good as the ceiling.
    """
    if not rows:
        return None
    lows, highs = [row["low"] for row in rows], [row["high"] for row in rows]
    low, high = min(lows), max(highs)
    room: float = 0.06 * (high - low) or 0.05
    low, high = low - room, high + room

    def x(value: float) -> float:
        return float(round(SIDE + (WIDTH - 2 * SIDE) * (value - low) / (high - low), 1))

    drawn = []
    for number, row in enumerate(rows):
        y = TOP + ROW * number + 28
        dots = [(x(value), round(y + (-6, 0, 6)[index % 3], 1)) for index, value in enumerate(row["dots"])]
        place = {"y": y, "x": x(row["mean"]), "x0": x(row["low"]), "x1": x(row["high"]), "dots": dots}
        written = difference if metric_named(metric).of_base else amount
        drawn.append({**row, **place, "text": written(row["mean"], metric)})
    bottom = TOP + ROW * len(rows) + 8
    base = next((place["x"] for place in drawn if place["kind"] == "base"), None)
    answer_mask = None if good is None else {"x": x(max(good, low)), "width": round(WIDTH - SIDE - x(max(good, low)), 1)}
    marks = [{"x": x(tick), "text": _tick(tick, metric)} for tick in ticks(low, high)]
    return {
        "width": WIDTH,
        "height": bottom + 34,
        "top": TOP,
        "bottom": bottom,
        "rows": drawn,
        "ticks": marks,
        "base": base,
        "zone": answer_mask,
    }


def _tick(value: float, metric: str) -> str:
    return f"{100 * value:.4g}" if is_share(metric) else f"{value:.4g}"


def described(rows: list[dict[str, Any]], metric: str) -> str:
    """A chart in words, for those who do not see it."""
    parts = []
    for row in rows:
        span = f"{amount(row['low'], metric)} to {amount(row['high'], metric)}"
        parts.append(f"{row['label']}: {amount(row['mean'], metric)} ({span})")
    return "; ".join(parts) + "."
