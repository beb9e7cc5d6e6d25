"""How many seconds of a core a run of many trials takes to open, to go on with and to conclude, and how much memory.

`python -m benchmarks.scale.store --trials 1000,10000,50000 --bare 1000000`. Runs are made (benchmarks/scale/grown.py), and looked
at in a process of their own (benchmarks/scale/looked.py). A plan has to be read again, and a plan.json of more than 32 MB is not:
some 55,000 trials. Beyond that only the store can be measured (`--bare`): to open it, and to list what is done.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from locus.machine.threads import settle

settle()

from benchmarks.scale.grown import bare, grow, small  # noqa: E402
from benchmarks.scale.kept import HERE, Kept, Row  # noqa: E402

SETTINGS, SEEDS = 10, 10  # of every random Location
AIM_SECONDS, AIM_MB = 10, 500


def measured(trials: int, whole: bool) -> Row:
    """Make a run, and look at it in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        run, out = small(Path(place) / "SMALL"), Path(place) / "RUN"
        places = max(4, trials // (SETTINGS * SEEDS))
        count = (grow if whole else bare)(run, out, places, SETTINGS, SEEDS)
        sizes = {name: (out / name).stat().st_size / 1e6 for name in ("trials.sqlite", "plan.json") if (out / name).exists()}
        command = [sys.executable, "-m", "benchmarks.scale.looked", str(out)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return {"count": count, "places": places, **sizes, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Measure what is not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", default="1000,10000,50000")
    parser.add_argument("--bare", default="")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "store.jsonl")
    told = parser.parse_args()
    kept = Kept(told.out)
    for whole, numbers in ((True, told.trials), (False, told.bare)):
        for trials in map(int, filter(None, numbers.split(","))):
            kept.row(lambda trials=trials, whole=whole: measured(trials, whole), trials=trials, whole=whole)
    lines = [
        "| trials | plan, MB | store, MB | open, s | resume, s | conclude, s | together, s | peak, MB |",
        "|" + " ---: |" * 8,
    ]
    for row in kept.rows:
        parts = [row.get(name) for name in ("open", "resume", "conclude")]
        size = "none" if "plan.json" not in row else f"{row['plan.json']:.1f}"
        cells = [
            f"{row['count']:,}",
            size,
            f"{row['trials.sqlite']:.1f}",
            *("" if one is None else f"{one:.2f}" for one in parts),
        ]
        most = max(value for name, value in row.items() if name.endswith("_mb"))
        lines.append(f"| {' | '.join([*cells, f'{sum(filter(None, parts)):.2f}', str(most)])} |")
    before = max(row["before_mb"] for row in kept.rows)
    lines += ["", f"Aim: {AIM_SECONDS} s and {AIM_MB} MB. n = 1 each. Seconds are what one core computed (CPU time)."]
    lines += [f"Of the memory {before} MB are Python and its packages."]
    kept.page(lines)


if __name__ == "__main__":
    main()
