"""Run jobs turn by turn and take medians: a machine that slows down slows down both sides."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Job = tuple[str, dict[str, Any]]
Found = dict[str, Any]


def run(job: Job) -> Found:
    """One job in a fresh process.

    Raises:
        RuntimeError: with the end of what it said, if it failed.
    """
    side, arguments = job
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps({"side": side, "arguments": arguments})]
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stderr[-3000:]}")
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def interleaved(jobs: Sequence[Job], repeats: int, say: Callable[[str], None]) -> list[list[Found]]:
    """Every job `repeats` times, in turns; by job, what was found."""
    found: list[list[Found]] = [[] for _ in jobs]
    for turn in range(repeats):
        for number, job in enumerate(jobs):
            one = run(job)
            found[number].append(one)
            say(f"  turn {turn + 1} of {repeats}: {job[0]} {one['seconds']:.1f} s")
    return found


def median(found: Sequence[Found], of: Callable[[Found], float]) -> float:
    """The median of a value over repeats."""
    return statistics.median(of(one) for one in found)


def furthest(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest difference, relative where values are above 1.

    Raises:
        ValueError: if the two sides did not even do the same number of things.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"one side found {len(a)} values, the other {len(b)}")
    return max(abs(x - y) / max(1.0, abs(x), abs(y)) for x, y in zip(a, b, strict=True))


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Least-squares line y = intercept + slope x: (slope, intercept, R squared)."""
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    across = sum((a - mean_x) ** 2 for a in x)
    steep = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / across
    start = mean_y - steep * mean_x
    left = sum((b - start - steep * a) ** 2 for a, b in zip(x, y, strict=True))
    whole = sum((b - mean_y) ** 2 for b in y)
    return steep, start, 1 - left / whole if whole else 1.0
