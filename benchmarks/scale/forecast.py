"""Whether `locus forecast` says what local Ray workers take: 1, 2 and 4 of them, on a small random model.

`python -m benchmarks.scale.forecast --random 47 --epochs 40 --turns 3`, on a machine that does nothing else. What a forecast asks
of a machine is measured beforehand, of nothing that it is then held against: the rate that banks reach, by short audits with one
process and with one on every core; the seconds until a process has the model, by the same; and the seconds that it waits, beside
these, until a Ray worker has come up, by one that imports what banks need.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from locus.machine.threads import settle

settle()

import locus  # noqa: E402
from benchmarks.scale.kept import HERE, Kept, Row, middle, timed  # noqa: E402
from locus.machine.threads import granted  # noqa: E402
from tests import wide  # noqa: E402

PILOT = 8  # random Locations of the short audits
WORKERS = (1, 2, 4)
AIM = 0.2
COMES_UP = """
import sys, time
begun = time.monotonic()
from locus.machine.threads import settle
settle()
from locus.run.executors import Tasks, at_work
from tests.toys.comes_up import Imports
with at_work("ray", soon=1) as team:
    time.sleep(float(sys.argv[1]))  # the driver loads the model
    list(team.run(Tasks([0], Imports(), 1)))
    print(time.monotonic() - begun - float(sys.argv[1]))
"""


def coming_up(loading: float) -> Row:
    """Seconds that a driver waits, beside those of loading, until a worker is there and has what banks need."""
    done = subprocess.run([sys.executable, "-c", COMES_UP, str(loading)], check=True, stdout=subprocess.PIPE, text=True)
    return {"seconds": round(float(done.stdout.splitlines()[-1]), 2)}


def machine(kept: Kept, turns: int, epochs: int) -> dict[str, float]:
    """Rates with one process and with one on every core, and seconds of loading and opening: medians."""
    cores = granted()
    for turn in range(turns):
        for executor, threads in (("serial", 1), ("fork", cores)):
            measure = partial(timed, executor, threads, random=PILOT, epochs=epochs)
            kept.row(measure, kind="pilot", workers=threads, epochs=epochs, turn=turn)
    alone, busy = (kept.of(kind="pilot", workers=threads, epochs=epochs) for threads in (1, cores))
    beside = [{"seconds": row["seconds"] - row["trials"]} for row in alone]
    for turn in range(turns):
        kept.row(partial(coming_up, middle(beside, "seconds")), kind="coming up", workers=1, turn=turn)
    return {
        "alone": middle(alone, "rate"),
        "busy": middle(busy, "rate"),
        "loading": middle(beside, "seconds"),
        "opening": middle(kept.of(kind="coming up"), "seconds"),
    }


def forecast(found: dict[str, float], workers: int, settings: dict[str, Any]) -> float:
    """Seconds of an audit with so many workers, as `locus.forecast` says."""
    with tempfile.TemporaryDirectory() as folder:
        made = wide.settings(Path(folder), bank=1, executor="ray", **settings)
        model, data, claims = (made.pop(name) for name in ("model", "data", "claims"))
        told = {"loading": found["loading"], "opening": found["opening"], "cores": granted(), "progress": False}
        rate = found["alone"] if workers == 1 else found["busy"]
        return locus.forecast(model, data, list(claims), devices=workers, rate=rate, **told, **made).at(workers).seconds


def main() -> None:
    """Measure what is not measured yet, forecast it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=47)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "forecast.jsonl")
    told = parser.parse_args()
    kept, settings = Kept(told.out), {"random": told.random, "epochs": told.epochs}
    found, begun = machine(kept, told.turns, told.epochs), time.monotonic()
    said = {workers: forecast(found, workers, settings) for workers in WORKERS}
    print(f"forecast in {time.monotonic() - begun:.0f} s: {said}", flush=True)
    for turn in range(told.turns):
        for workers in WORKERS:
            kept.row(partial(timed, "ray", workers, **settings), kind="audit", workers=workers, turn=turn, **settings)
    lines = ["| workers | forecast, s | measured, s | range | forecast / measured | n |", "|" + " ---: |" * 6]
    for workers in WORKERS:
        rows = kept.of(kind="audit", workers=workers, **settings)
        each, measured = [row["seconds"] for row in rows], middle(rows, "seconds")
        cells = [
            f"{said[workers]:.1f}",
            f"{measured:.1f}",
            f"{min(each):.1f} to {max(each):.1f}",
            f"{said[workers] / measured:.2f}",
        ]
        lines.append(f"| {workers} | {' | '.join(cells)} | {len(rows)} |")
    about = (
        f"{rows[0]['banks']} banks; {found['alone']:.3g} multiply-adds a second alone, {found['busy']:.3g} with every core busy"
    )
    about += f"; {found['loading']:.1f} s until there is a model, {found['opening']:.1f} s until a worker has come up"
    kept.page([*lines, "", f"Aim: within {AIM:.0%}. {about} (n = {told.turns} each)."])


if __name__ == "__main__":
    main()
