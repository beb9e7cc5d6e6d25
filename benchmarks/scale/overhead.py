"""What an executor costs: the same audit by `serial`, by `ray` with one worker, and by `fork`, turn by turn.

`python -m benchmarks.scale.overhead --minutes 10 --turns 3`, on a machine that does nothing else. First a short audit is timed,
from which the long one is made: as many epochs as fill the minutes. With one thread `fork` has one worker, which is the process
itself; so it is measured with two workers too, where what counts is the time of two cores.
"""

import argparse
from pathlib import Path

from benchmarks.scale.kept import HERE, Kept, middle, timed

PILOT = {"random": 8, "epochs": 4}
RANDOM = 36
SIDES = {
    "serial": ("serial", 1),
    "ray, one worker": ("ray", 1),
    "fork, one worker": ("fork", 1),
    "fork, two workers": ("fork", 2),
}
AIM = 0.03


def epochs(kept: Kept, minutes: float) -> int:
    """As many as make the audit last so long, by what a short one took."""
    pilot = kept.row(lambda: timed("serial", 1, **PILOT), side="pilot", minutes=0, turn=0)
    an_epoch = pilot["trials"] / pilot["banks"] / PILOT["epochs"]
    return max(1, round(60 * minutes / (RANDOM + 3) / an_epoch))


def main() -> None:
    """Measure what is not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of an audit")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sides", type=int, default=len(SIDES), help="only so many of them, in their order")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "overhead.jsonl")
    told = parser.parse_args()
    kept = Kept(told.out)
    count = epochs(kept, told.minutes)
    sides = dict(list(SIDES.items())[: told.sides])
    for turn in range(told.turns):
        for side, (executor, threads) in sides.items():
            measure = lambda executor=executor, threads=threads: timed(executor, threads, random=RANDOM, epochs=count)  # noqa: E731
            kept.row(measure, side=side, minutes=told.minutes, turn=turn)
    lines = ["| side | seconds, median | range | of banks | beside banks | against serial | n |", "| --- |" + " ---: |" * 6]
    serial = middle(kept.of(side="serial", minutes=told.minutes), "seconds")
    for side, (_, threads) in sides.items():
        rows = kept.of(side=side, minutes=told.minutes)
        each, banks = [row["seconds"] for row in rows], middle(rows, "trials") / threads
        more = threads * middle(rows, "seconds") / serial - 1
        cells = [f"{middle(rows, 'seconds'):.1f}", f"{min(each):.1f} to {max(each):.1f}", f"{banks:.1f}"]
        cells += [f"{middle(rows, 'seconds') - banks:.1f}", f"{more:+.1%}", str(len(rows))]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    about = f"{rows[0]['banks']} banks, each of one edit, {count} epochs. Aim: {AIM:.0%} more than serial with one worker"
    kept.page([*lines, "", f"{about}; of two workers the time of both cores is compared."])


if __name__ == "__main__":
    main()
