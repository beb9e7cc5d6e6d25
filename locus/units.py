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


def difference(value: float | None, measure: str, unit: bool = True, sign: bool = True, margin: float | None = None) -> str:
    """A difference of two values, in points of a percent where they are shares.

    Args:
        value: the difference, as a fraction or in nats.
        measure: what was measured.
        unit: whether the unit is named.
        sign: whether a gain has a plus.
        margin: what the difference is held against; where it is small there are more decimals, so that a tenth of it shows.
    """
    if value is None or not math.isfinite(value):
        return "–"
    plus, scale, usual = "+" if sign else "", *((100, 1) if measure in PERCENT else (1, 3))
    decimals = usual if not margin else min(usual + 3, max(usual, 1 - math.floor(math.log10(abs(scale * margin)))))
    name = ("points" if measure in PERCENT else "nats") if unit else ""
    return f"{scale * value:{plus}z.{decimals}f} {name}".rstrip()


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def share(value: float) -> str:
    """A round share: a level, a power, a part of the whole."""
    return f"{100 * value:.0f} %"
