"""How much of a core the driver of a run needs while 64 workers are at work.

`python -m benchmarks.scale.driver --workers 64 --seconds 10 --rounds 6`. Workers are Ray's own, begun as a run begins them, and
their banks sleep: so many fit on a small machine. All else is real: the driver hands out jobs, asks how far they are, hears
results with the bytes of an edit, saves these and commits rows to a store, as `locus.run.schedule` does.
"""

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from locus.machine.threads import settle

settle()

from benchmarks.scale.grown import results, small  # noqa: E402
from benchmarks.scale.kept import HERE, Kept, Row, middle  # noqa: E402
from locus.records.result import Result  # noqa: E402
from locus.records.store import Store  # noqa: E402
from locus.run.bank import DoneBank  # noqa: E402
from locus.run.executors import Tasks, at_work  # noqa: E402
from locus.run.executors.base import Say  # noqa: E402

EDIT = 200_000  # bytes of the edit that a bank sends: of four heads of a layer, in a model of width 4096
AIM = 0.05  # of a core
STEPS = 20  # in which a bank says how far it is


class Sleeps:
    """A bank that takes its time and computes nothing.

    Args:
        seconds: that it takes, give or take a fifth.
        done: what comes out of each.
    """

    def __init__(self, seconds: float, done: list[Result]):
        self.seconds, self.done = seconds, done

    def __call__(self, job: int, say: Say) -> DoneBank:
        """Sleep."""
        each = self.seconds * (0.8 + 0.4 * (job * 0.618 % 1)) / STEPS
        for step in range(STEPS):
            time.sleep(each)
            say((step + 1) / STEPS)
        return DoneBank([self.done[job]], {self.done[job].id: bytes(EDIT)})


def measured(workers: int, seconds: float, rounds: int) -> Row:
    """Seconds that passed, and that this process computed, from when all workers have come up until the last of them go idle."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        store, made = Store(place / "trials.sqlite"), results(small(place / "SMALL"), workers * rounds)
        (place / "edits").mkdir()
        heard, marks = 0, list[tuple[float, float]]()
        tasks = Tasks(range(len(made)), Sleeps(seconds, made), workers, lambda bank, share: None)
        with at_work("ray") as team, closing(team.run(tasks)) as coming:
            for bank in coming:
                bank.save_edits(place / "edits")
                store.commit(bank.results)
                heard += 1
                if heard in (workers, len(made) - workers):  # all have come up, and all are still at work
                    marks.append((time.monotonic(), time.process_time()))
        store.close()
    (begun, before), (ended, after) = marks
    passed = ended - begun
    banks_a_second = (len(made) - 2 * workers) / passed
    return {"passed": round(passed, 2), "computed": round(after - before, 3), "banks_a_second": round(banks_a_second, 2)}


def main() -> None:
    """Measure what is not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a bank")
    parser.add_argument("--rounds", type=int, default=6, help="banks of each worker")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "driver.jsonl")
    told = parser.parse_args()
    kept, size = Kept(told.out), (told.workers, told.seconds, told.rounds)
    for turn in range(told.repeats):
        key = {"workers": told.workers, "bank": told.seconds, "rounds": told.rounds, "turn": turn}
        kept.row(lambda: measured(*size), **key)
    lines = ["| workers | seconds a bank | banks a second | of a core, median | n |", "| ---: | ---: | ---: | ---: | ---: |"]
    for workers, bank in dict.fromkeys((row["workers"], row["bank"]) for row in kept.rows):
        rows = [{**row, "share": row["computed"] / row["passed"]} for row in kept.of(workers=workers, bank=bank)]
        cells = [workers, bank, f"{middle(rows, 'banks_a_second'):.1f}", f"{middle(rows, 'share'):.1%}", len(rows)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    kept.page([*lines, "", f"Aim: {AIM:.0%} of a core. Saving edits and committing rows is part of it."])


if __name__ == "__main__":
    main()
