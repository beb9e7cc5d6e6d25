"""What an audit of a given size can find, as `locus power` gives it and writes it: a dictionary whose entries are named."""

from typing import TypedDict


class SpecialPower(TypedDict):
    """What the rank test finds; effects in sd between Locations."""

    effect: float
    power: float
    smallest_effect: float
    random_for_effect: int | None
    reason: str


class PairedPower(TypedDict):
    """What paired differences over questions find; in sd of one question's difference."""

    smallest_effect: float
    questions_for: dict[str, int | None]


class Power(TypedDict):
    """What an audit of a given size can find. Curves: number of random Locations -> power for each of the effects."""

    n_random: int
    n_questions: int
    alpha: float
    n_claims: int
    want: float
    noise: float
    seeds: int
    least_p: float
    special: SpecialPower
    paired: PairedPower
    curve: dict[str, list[float]]
    effects: list[float]


class PowerOfRun(Power):
    """The same, with the scales of the run that they were taken from, if there is one, and why they may mean little."""

    run: dict[str, float]
    warning: str
