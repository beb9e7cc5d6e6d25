"""The schedule of banks, played through without doing them: how long so many devices take, and how much of them is idle.

The rules are those of the executors: banks in the order of the plan, each to whoever is free first; a wave waits for the one
before it; no more than a few banks a worker are begun ahead of the first that is unfinished; a worker that dies begins anew, and
its bank goes first to whoever is free; a bank whose worker dies twice ends the run. What the driver does before there is anything
to share (the base model's passes) is done by one device.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from locus.run.executors.base import AHEAD, TRIES

DRAWS = 64  # runs that are played through where chance has a part


@dataclass(frozen=True)
class Fleet:
    """Devices that are alike.

    Attributes:
        count: how many.
        opening: seconds until a worker has the model and what the base model made.
        spread: standard deviation of the logarithm of what a bank takes, around what was reckoned.
        deaths: of a worker, an hour.
    """

    count: int
    opening: float = 0.0
    spread: float = 0.0
    deaths: float = 0.0


@dataclass(frozen=True)
class Played:
    """How a run went.

    Attributes:
        seconds: from beginning to end.
        busy: device-seconds spent on banks that came to their end.
        deaths: workers that died.
        ended: whether a bank's workers died so often that the run ended; the same command goes on.
    """

    seconds: float
    busy: float
    deaths: int = 0
    ended: bool = False


def play(alone: float, waves: Sequence[Sequence[float]], fleet: Fleet, generator: np.random.Generator) -> Played:
    """Play one run through.

    Args:
        alone: seconds of the driver before there are banks.
        waves: seconds that banks are reckoned to take, in order; each wave begins at edits of those before it.
        fleet: who does them.
        generator: of chance.
    """
    now, busy, deaths, team = alone, 0.0, 0, list[float]()
    for wave in waves:
        team = [max(now, free) for free in team]
        team += [now + fleet.opening] * (min(fleet.count, len(wave)) - len(team))
        took = np.asarray(wave) * np.exp(fleet.spread * generator.standard_normal(len(wave)))
        ended, died, whole = _wave(took, team, fleet, generator)
        if not whole:
            return Played(ended, busy, deaths + died, True)
        now, busy, deaths = ended, busy + float(took.sum()), deaths + died
    return Played(now, busy, deaths)


def _wave(took: np.ndarray, team: list[float], fleet: Fleet, generator: np.random.Generator) -> tuple[float, int, bool]:
    """When a wave ends, how many workers died, and whether every bank came to its end; `team`: when each worker is free."""
    heapq.heapify(team)
    ends, deaths, waiting = np.full(len(took), np.inf), 0, 0
    again: list[tuple[float, int, int]] = []
    while waiting < len(took) or again:
        free = heapq.heappop(team)
        if again and (again[0][0] <= free or waiting == len(took)):
            since, bank, tries = heapq.heappop(again)
            free = max(free, since)
        else:
            bank, tries, waiting = waiting, 0, waiting + 1
            if (before := bank - AHEAD * (len(team) + 1)) >= 0:
                known = ends[: before + 1]
                free = max(free, float(known[np.isfinite(known)].max(initial=0.0)))
        lasts = float(generator.exponential(3600 / fleet.deaths)) if fleet.deaths else np.inf
        if lasts >= took[bank]:
            ends[bank] = free + took[bank]
            heapq.heappush(team, float(ends[bank]))
            continue
        deaths += 1
        if tries + 1 == TRIES:
            return free + lasts, deaths, False
        heapq.heappush(again, (free + lasts, bank, tries + 1))
        heapq.heappush(team, free + lasts + fleet.opening)
    return float(ends.max(initial=0.0)), deaths, True


def played(alone: float, waves: Sequence[Sequence[float]], fleet: Fleet, seed: int = 0) -> list[Played]:
    """Several runs, or the one where nothing is left to chance; the seed is the same for every fleet."""
    draws = DRAWS if fleet.spread or fleet.deaths else 1
    return [play(alone, waves, fleet, np.random.default_rng([seed, draw])) for draw in range(draws)]
