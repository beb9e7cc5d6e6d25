"""What unit each measure is in, and how a number of it is written, wherever a person reads one.

Shares are written as percentages with one decimal, differences of shares in points of a percent, and everything else in nats,
with three decimals; files and functions hold shares as fractions.
"""

import math

PERCENT = (
    *("mc1", "mc2", "mc3", "truth", "info", "true_info", "both", "blind_true_info", "share"),
    *("product", "corrected_both", "corrected_truth", "corrected_info"),
)


def amount(value: float | None, measure: str) -> str:
    """A value with its unit; a dash for what is not defined."""
    return f"{bare(value, measure)} %" if measure in PERCENT and _known(value) else bare(value, measure)


def bare(value: float | None, measure: str) -> str:
    """A value without its unit, for where the unit is named above."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:z.1f}" if measure in PERCENT else f"{value:z.3f}"


def difference(value: float | None, measure: str, unit: bool = True, sign: bool = True) -> str:
    """A difference of two values, in points of a percent where they are shares."""
    if value is None or not math.isfinite(value):
        return "–"
    plus = "+" if sign else ""
    if measure in PERCENT:
        return f"{100 * value:{plus}z.1f}{' points' if unit else ''}"
    return f"{value:{plus}z.3f}{' nats' if unit else ''}"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def share(value: float) -> str:
    """A round share: a level, a power, a part of the whole."""
    return f"{100 * value:.0f} %"
