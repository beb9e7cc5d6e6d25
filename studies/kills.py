"""Kill audits (SIGKILL) at random moments, let them go on, and hold what they end with against audits that nothing disturbed.

`python -m studies.kills --kills 100 --seed 0 --threads 2`, from the root of a checkout; the table goes to `studies/kills/`.

Every audit is a process of its own, forked from this one, which has imported everything and computed nothing. Two kills of three
come at a moment drawn evenly from the time that an undisturbed audit takes. The third comes in the midst of writing a file,
between its last byte and its name: the plan, an edit, what is cached, the verdict, the receipt, the page. Whenever an audit goes
on, the number of threads that its process would use by itself, its cache, and whether what was cached is gone, are drawn anew.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locus.machine.threads import settle

settle()  # before torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

from locus.audit import audit  # noqa: E402
from locus.plan.config import resolve  # noqa: E402
from locus.records.store import Store  # noqa: E402
from locus.report.verify import first_difference, verify  # noqa: E402
from tests import wide  # noqa: E402

HERE = Path(__file__).parent / "kills"
RUNS = ("planted", "wide", "speaking", "early")
OWN = (1, 2, 3)  # threads that a process that goes on would use by itself
TIMED = ("seconds", "cost")  # parts of a verdict that say how long it took, and what was in the cache
SMALL = {"random": 4, "alpha": 0.25, "train": 16, "validation": 6, "test": 12}
PLANTED = {"model": "planted:localized:4", "epochs": 2, "sequential": False, **SMALL}
SPEAKING = {"judge": "blind", "metric": "mc2", "max_new_tokens": 4, "claims": ("probe",), "claim_size": 2}
EARLY = {"sequential": True, "random": 8}  # of which two are drawn, and nothing more can change
MOMENTS = ("before the plan", "before the first trial", "among the trials", "after the last trial", "after the receipt")


@dataclass
class Tried:
    """One audit that is killed again and again.

    Attributes:
        settings: its own.
        whole: the folder of the run that nothing disturbed.
        seconds: that it took.
        kills: by what was done when they came.
        finished: how often it came to its end after kills.
        different: what then differed.
    """

    settings: dict[str, Any]
    whole: Path
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    different: list[str] = field(default_factory=list)


def child(settings: dict[str, Any], out: Path, threads: int, gigabytes: str, write: int | None = None) -> int:
    """Fork a process that runs an audit; its id.

    Args:
        settings: of the audit.
        out: its folder.
        threads: that the process would use by itself.
        gigabytes: of the cache.
        write: the number of the file in the midst of whose writing it is killed, counted in each of its processes.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
        os.environ["LOCUS_CACHE_GB"] = gigabytes
        torch.set_num_threads(threads)
        if write is not None:
            die_writing(write)
        audit(resolve("quick", **settings), out, sign=False)
        status = 0
    finally:
        os._exit(status)


def die_writing(number: int) -> None:
    """Have this process, and with it its workers, killed when it or one of them has written so many files but for their names."""
    mine, real, left = os.getpid(), os.fsync, [number]

    def fsync(descriptor: int) -> None:
        real(descriptor)
        left[0] -= 1
        if left[0] < 0:
            os.kill(mine, signal.SIGKILL)
            time.sleep(60)

    os.fsync = fsync


def ended(process: int) -> int:
    """Wait for a process; its status, negative if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(process: int, seconds: float) -> int:
    """Kill a process after some seconds unless it has ended; its status."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        process_ended, status = os.waitpid(process, os.WNOHANG)
        if process_ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return ended(process)


def moment(out: Path) -> str:
    """What an audit was doing, by what it has left."""
    for name, moment in (("receipt.json", MOMENTS[4]), ("verdict.json", MOMENTS[3])):
        if (out / name).exists():
            return moment
    if not (out / "plan.json").exists():
        return MOMENTS[0]
    done, planned = 0, len(json.loads((out / "plan.json").read_text())["trials"])
    if (out / "trials.sqlite").exists():
        with tempfile.TemporaryDirectory() as place:  # looking at a store would mend what the kill has left
            for path in out.glob("trials.sqlite*"):
                shutil.copy(path, place)
            store = Store(Path(place) / "trials.sqlite")
            done = len(store.done())
            store.close()
    return MOMENTS[3 if done == planned else 2 if done else 1]


def edit(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """What an edit's file holds; in which order safetensors writes its metadata is left to chance."""
    with safe_open(path, framework="numpy") as file:
        return dict(sorted(file.metadata().items())), {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}


def content(out: Path) -> dict[str, Any]:
    """All of a finished run that does not say how long it took."""
    store = Store(out / "trials.sqlite")
    trials = [one.model_copy(update={"seconds": None, "finished": None}).to_json() for one in store.trials()]
    texts = {one["id"]: store.texts(one["id"], "test") for one in trials}
    rows = store.dump()
    store.close()
    verdict = json.loads((out / "verdict.json").read_text())
    return {
        "plan": json.loads((out / "plan.json").read_text()),
        "scores": rows,
        "trials": trials,
        "texts": texts,
        "edits": {path.name: edit(path) for path in sorted((out / "edits").iterdir())},
        "verdict": {name: value for name, value in verdict.items() if name not in TIMED},
    }


def differs(out: Path, whole: dict[str, Any]) -> list[str]:
    """What of a run is not as in the undisturbed one; and what is wrong with its folder."""
    resumed = content(out)
    wrong = [
        f"{part} {first_difference(whole[part], resumed[part]) or ''}".strip() for part in whole if resumed[part] != whole[part]
    ]
    receipt = json.loads((out / "receipt.json").read_text())
    named = {"receipt.json", *receipt["body"]["artefacts"], *receipt["body"]["database"], *receipt["views"]["files"]}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if there != named:
        wrong.append(f"files: {sorted(there ^ named)}")
    verify(out)
    return wrong


def attempt(tried: Tried, out: Path, most: int, draw: random.Random, cache: Path, seconds: float) -> int:
    """Kill one audit up to a number of times, let it end, and compare; how many kills there were.

    Args:
        tried: the audit.
        out: a new folder.
        most: kills.
        draw: where moments come from.
        cache: the cache's folder.
        seconds: by how many an audit is expected to end.
    """
    count, status = 0, -1
    while status:
        if draw.random() < 0.2:
            shutil.rmtree(cache, ignore_errors=True)
        last, first = count >= most, not (out / "plan.json").exists()
        # A run that begins, begins as the undisturbed one: what it begins with is in its plan.
        own, gigabytes = (draw.choice(OWN), draw.choice(("0", "1", "0.000001"))) if not first else (tried.settings["own"], "1")
        settings = {name: value for name, value in tried.settings.items() if name != "own"}
        if last or draw.random() < 2 / 3:
            process = child(settings, out, own, gigabytes)
            status = ended(process) if last else killed(process, draw.uniform(0.0, seconds))
        else:
            status = ended(child(settings, out, own, gigabytes, draw.randrange(16)))
        if status == -signal.SIGKILL:
            count += 1
            tried.kills[moment(out)] += 1
        elif status:
            tried.different.append(f"ended with status {status}: {out}")
            return count
    tried.finished += 1
    return count


def study(names: list[str], kills: int, seed: int, threads: int, place: Path) -> dict[str, Tried]:
    """Kill the named audits so often in all; what came of it."""
    os.environ["LOCUS_CACHE"] = str(place / "cache")
    made = wide.settings(place / "wide")
    kinds = {"planted": PLANTED, "wide": made, "speaking": {**made, **SPEAKING}, "early": {**made, **EARLY}}
    tried, wholes = {}, {}
    for name in names:
        one = tried[name] = Tried({**kinds[name], "own": threads}, place / f"{name}-whole")
        begun = time.monotonic()
        assert ended(child(kinds[name], one.whole, threads, "1")) == 0, f"the undisturbed audit {name} did not end"
        one.seconds = 0.8 * (time.monotonic() - begun)  # those that follow find what it has cached
        wholes[name] = content(one.whole)
    draw, count, number = random.Random(seed), 0, 0
    while count < kills:
        name, out = names[number % len(names)], place / f"RUN-{number}"
        one = tried[name]
        # Now and then the machine is busier or idler than it was: moments are drawn from what was seen last.
        begun = time.monotonic()
        had = attempt(one, out, min(draw.randint(1, 6), kills - count), draw, place / "cache", one.seconds)
        count, number = count + had, number + 1
        one.seconds = one.seconds if had else time.monotonic() - begun
        if (out / "receipt.json").exists() and (wrong := differs(out, wholes[name])):
            one.different += [f"{out}: {part}" for part in wrong]
        else:
            shutil.rmtree(out, ignore_errors=True)
        print(f"{count} of {kills} kills, {number} runs, {sum(len(one.different) for one in tried.values())} differ", flush=True)
    return tried


def table(tried: dict[str, Tried]) -> list[str]:
    """A line an audit."""
    heads = ["audit", "kills", *MOMENTS, "runs that ended", "that differ"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " --- |" * (len(heads) - 1)]
    for name, one in tried.items():
        cells = [sum(one.kills.values()), *(one.kills[what] for what in MOMENTS), one.finished, len(one.different)]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return lines


def main() -> int:
    """Run the study, print its table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="with which each run is begun")
    parser.add_argument("--runs", nargs="+", default=RUNS, choices=RUNS)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # this process begins no threads: a fork would wait for them for ever
    with tempfile.TemporaryDirectory() as place:
        tried = study(arguments.runs, arguments.kills, arguments.seed, arguments.threads, Path(place))
    lines, different = table(tried), [part for one in tried.values() for part in one.different]
    print("\n".join([*lines, *different]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "kills": sum(sum(one.kills.values()) for one in tried.values()),
        "finished": sum(one.finished for one in tried.values()),
        "different": len(different),
        "seed": arguments.seed,
        "threads": arguments.threads,
        "audits": {name: {"kills": dict(one.kills), "finished": one.finished} for name, one in tried.items()},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    (arguments.out / "kills.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (arguments.out / "kills.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
