"""Kill workers and drivers of audits on Ray at random, its head too, fill the disk, and compare with an audit left in peace.

`python -m studies.ray_kills --workers 30 --drivers 10`, from the root of a checkout with the extra `ray`; the table goes to
`studies/ray_kills/`. Every audit is a process of its own, with a cluster of its own. A run that ends by itself before all kills
were dealt is followed by the next.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from locus.machine.threads import settle

settle()

from studies.kills import content  # noqa: E402
from tests import wide  # noqa: E402

HERE = Path(__file__).parent / "ray_kills"
KINDS = ("worker", "driver", "head")
SETTINGS = {"random": 24, "bank": 1, "epochs": 4, "sequential": False}


def command(settings: Path, out: Path, executor: str) -> list[str]:
    """The command of an audit."""
    told = ["audit", "--out", str(out), "--config", str(settings), "--no-sign", "--set", f"executor={executor}"]
    return [sys.executable, "-m", "locus", *told]


def tree(process: int) -> dict[int, str]:
    """The processes below one, with what they call themselves."""
    parents: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        parents.setdefault(parent, []).append(int(entry.name))
    below, left = dict[int, str](), [process]
    while left:
        for child in parents.get(left.pop(), []):
            below[child] = names[child]
            left.append(child)
    return below


def victims(process: int, kind: str) -> list[int]:
    """Whom a kill may hit."""
    if kind == "driver":
        return [process]
    mark = "ray::Worker" if kind == "worker" else "gcs_server"
    return [one for one, name in tree(process).items() if mark in name]


def commits(out: Path) -> int:
    """How many edits there are."""
    return len(list((out / "edits").glob("*.safetensors")))


def attempt(settings: Path, out: Path, left: Counter[str], draw: random.Random, dealt: Counter[str]) -> int:
    """Run an audit to its end or to the death of its driver, killing as long as there are kills left; its status."""
    process = subprocess.Popen(command(settings, out, "ray"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            until, begun = time.monotonic() + draw.uniform(2, 15), commits(out)
            while process.poll() is None and (time.monotonic() < until or not victims(process.pid, "worker")):
                time.sleep(0.2)
            kinds = [kind for kind in KINDS if left[kind]]
            if process.poll() is not None or not kinds:
                break
            kind = draw.choices(kinds, [left[kind] for kind in kinds])[0]
            if kind != "worker" and commits(out) == begun:
                continue  # whoever goes on must have something to go on from
            if found := victims(process.pid, kind):
                os.kill(draw.choice(found), signal.SIGKILL)
                left[kind] -= 1
                dealt[kind] += 1
                print(f"killed a {kind} with {commits(out)} edits there; {dict(left)} left", flush=True)
        said = process.communicate(timeout=900)[1]
    finally:
        process.kill()
    if process.returncode not in (0, -signal.SIGKILL):
        dealt["ended with an error, and went on"] += 1
        print(process.returncode, said.strip().splitlines()[-1:], flush=True)
    return process.returncode


def full(settings: Path, place: Path) -> str:
    """An audit whose folder takes no more than a few files (as a full disk), then one with room; what it said."""
    out = place / "FULL"
    limited = f"ulimit -f 60; exec {' '.join(command(settings, out, 'ray'))}"
    ended = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=900)
    return f"status {ended.returncode}, {(ended.stderr.strip().splitlines() or [''])[-1][:160]}"


def main() -> int:
    """Run the study, print its table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for kind, count in zip(KINDS, (30, 10, 1), strict=True):
        parser.add_argument(f"--{kind}s", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    left = Counter({kind: getattr(arguments, f"{kind}s") for kind in KINDS})
    draw, dealt, different, runs = random.Random(arguments.seed), Counter[str](), [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = place / "settings.toml"
        os.environ["LOCUS_CACHE"] = str(place / "cache")
        made = wide.settings(place / "wide", **SETTINGS)
        settings.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in made.items()))
        subprocess.run(command(settings, place / "WHOLE", "serial"), check=True, capture_output=True)
        whole = content(place / "WHOLE")
        while left.total():
            out = place / f"RUN-{runs}"
            while attempt(settings, out, left, draw, dealt):
                pass
            runs += 1
            found = content(out)
            different += [f"run {runs}: {part}" for part in whole if found[part] != whole[part]]
            ids = [one["id"] for one in found["trials"]]
            different += (
                [f"run {runs}: a trial twice, or lost"]
                if len(set(ids)) != len(whole["trials"]) or len(ids) != len(set(ids))
                else []
            )
            shutil.rmtree(out)
            print(f"{runs} runs ended, {len(different)} differ", flush=True)
        said = full(settings, place)
        print(said, flush=True)
        while attempt(settings, place / "FULL", Counter(), draw, dealt):
            pass
        different += [f"after a full disk: {part}" for part in whole if content(place / "FULL")[part] != whole[part]]
    figures = {"killed": dict(dealt), "runs": runs, "trials": len(whole["trials"]), "different": different, "full": said}
    print(json.dumps(figures, indent=1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ray_kills.json").write_text(
        json.dumps({**figures, "seed": arguments.seed}, indent=1, sort_keys=True) + "\n"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
