"""What unit each measure is in, and how a number of it is written, wherever a person reads one.

Shares are written as percentages with one decimal, differences of shares in points of a percent, and everything else with three
decimals, in nats where no other unit is named; files and functions hold shares as fractions. A metric's unit is its own to say.
"""

import math
from typing import Any

from locus import registry

SHARES = (  # that are no metrics
    *("both", "share", "product", "corrected_both", "corrected_truth", "corrected_info"),
    *("share_wanted", "share_unwanted", "corrected_wanted", "corrected_unwanted"),
)


def _metric(measure: str) -> Any:
    """The metric of a name, or None: a measure may be something else, and a stranger's file may name anything."""
    return registry.get("metrics", measure) if measure in registry.entries("metrics") else None


def is_share(measure: str) -> bool:
    """Whether a measure is a fraction, shown in percent."""
    return measure in SHARES or ((found := _metric(measure)) is not None and bool(found.is_share))


def unit_of(measure: str) -> str:
    """What a difference of a measure is in: points (of a percent), nats, or a metric's own unit."""
    if is_share(measure):
        return "points"
    unit = "nats" if (known := _metric(measure)) is None else str(known.unit)
    return "nats" if unit.startswith("nats") else unit


def amount(value: float | None, measure: str) -> str:
    """A value with its unit; a dash for what is not defined."""
    unit = "%" if is_share(measure) else "" if unit_of(measure) == "nats" else unit_of(measure)
    return f"{bare(value, measure)} {unit}" if unit and _known(value) else bare(value, measure)


def bare(value: float | None, measure: str) -> str:
    """A value without its unit, for where the unit is named above."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:z.1f}" if is_share(measure) else f"{value:z.3f}"


def difference(value: float | None, measure: str, unit: bool = True, sign: bool = True, margin: float | None = None) -> str:
    """A difference of two values, in points of a percent where they are shares.

    Args:
        value: the difference, as a fraction or in the measure's unit.
        measure: what was measured.
        unit: whether the unit is named.
        sign: whether a gain has a plus.
        margin: what the difference is held against; where it is small there are more decimals, so that a tenth of it shows.
    """
    if value is None or not math.isfinite(value):
        return "–"
    plus, scale, usual = "+" if sign else "", *((100, 1) if is_share(measure) else (1, 3))
    decimals = usual if not margin else min(usual + 3, max(usual, 1 - math.floor(math.log10(abs(scale * margin)))))
    name = unit_of(measure) if unit else ""
    return f"{scale * value:{plus}z.{decimals}f} {name}".rstrip()


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def p_value(value: float) -> str:
    """A p-value with three decimals; a dash for what is not defined."""
    return "–" if not _known(value) else "under 0.001" if value < 0.001 else f"{value:.3f}"


def share(value: float) -> str:
    """A round share: a level, a power, a part of the whole."""
    return f"{100 * value:.0f} %"
