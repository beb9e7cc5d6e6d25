"""Kill workers and drivers of audits on Ray at random, its head too, fill the disk, and compare with an audit left in peace.

`python -m studies.ray_kills --workers 30 --drivers 10 --heads 2`, from the root of a checkout with the extra `ray`; what is found
goes to `studies/ray_kills/`. Every audit is a process of its own, with a cluster of its own. A run that ends by itself before all
kills were dealt is followed by the next. What is found is kept run after run: the same command goes on after the last that ended.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locus.machine.threads import settle

settle()

from studies.kills import content  # noqa: E402
from tests import wide  # noqa: E402

HERE = Path(__file__).parent / "ray_kills"
KINDS = ("worker", "driver", "head")
IDLE = 5  # audits in a row that end with an error and have finished nothing
EPOCHS = 4
SETTINGS = {"random": 24, "bank": 1, "sequential": False}


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


@dataclass
class Dealing:
    """What is dealt to one run.

    Attributes:
        left: kills, by kind.
        draw: where moments and victims come from.
        dealt: what was done, by kind.
        said: last words of audits that ended with an error.
        idle: how often in a row one did and had finished nothing.
    """

    left: Counter[str]
    draw: random.Random
    dealt: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    idle: int = 0


def attempt(settings: Path, out: Path, dealing: Dealing, pause: float) -> int:
    """Run an audit to its end or to the death of its driver, killing as long as there are kills left; its status."""
    left, draw = dealing.left, dealing.draw
    before = commits(out)
    with tempfile.TemporaryFile("w+") as heard:
        process = subprocess.Popen(command(settings, out, "ray"), stdout=subprocess.DEVNULL, stderr=heard)
        try:
            while process.poll() is None:
                until, begun = time.monotonic() + pause * draw.uniform(0.1, 0.6), commits(out)
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
                    dealing.dealt[kind] += 1
                    print(f"killed a {kind} with {commits(out)} edits there; {dict(left)} left", flush=True)
            process.wait(timeout=3600)
        finally:
            process.kill()
        heard.seek(0)
        said = [line.strip() for line in heard.read().splitlines() if line.strip()]
    if process.returncode not in (0, -signal.SIGKILL):
        dealing.dealt["ended with an error, and went on"] += 1
        dealing.said[said[-1][:160] if said else f"status {process.returncode}"] += 1
        print(process.returncode, "\n".join(said[-30:]), flush=True)
        dealing.idle = 0 if commits(out) > before else dealing.idle + 1
        if dealing.idle >= IDLE:
            raise SystemExit(f"an audit that ended with an error {IDLE} times and did nothing in between")
    return process.returncode


def full(settings: Path, place: Path, room: int) -> str:
    """An audit on a disk of its own that has not the room for all of it (a tmpfs in a namespace of its own); what it said.

    Args:
        settings: of the audit.
        place: where what lay on that disk when the audit ended is copied to, as FULL.
        room: bytes of the disk.
    """
    disk, kept = place / "DISK", place / "FULL"
    disk.mkdir()
    told = f"mount -t tmpfs -o size={room} none {disk} && {shlex.join(command(settings, disk / 'FULL', 'ray'))}"
    inside = f"{told}; status=$?; cp -r {disk}/FULL {kept}; exit $status"
    spread = ["unshare", "--map-root-user", "--mount", "bash", "-c", inside]
    ended = subprocess.run(spread, capture_output=True, text=True, timeout=3600)
    return f"status {ended.returncode}, {commits(kept)} edits kept: {ended.stderr.strip().splitlines()[-1]}"


def differs(out: Path, whole: dict[str, Any]) -> list[str]:
    """What of a run is not as in the undisturbed one."""
    found = content(out)
    ids = [one["id"] for one in found["trials"]]
    wrong = [part for part in whole if found[part] != whole[part]]
    twice = len(ids) != len(set(ids)) or len(set(ids)) != len(whole["trials"])
    return [*wrong, *(["a trial twice, or lost"] if twice else [])]


def table(kept: dict[str, Any]) -> list[str]:
    """What was done and what came of it, a line each."""
    killed = {f"{kind}s killed": kept["killed"].get(kind, 0) for kind in KINDS}
    ended = {"audits that ended with an error, and went on": kept["killed"].get("ended with an error, and went on", 0)}
    rows = {**killed, **ended, "runs that came to their end": kept["runs"], "trials of each": kept["trials"]}
    rows["that differ from the one left in peace"] = len(kept["different"])
    lines = ["| what | number |", "| --- | ---: |", *(f"| {what} | {number} |" for what, number in rows.items())]
    said = [f"- {count} times: {words}" for words, count in kept["said"].items()]
    return [*lines, "", *said, *([f"On a full disk: {kept['full']}"] if kept["full"] else [])]


def main() -> int:
    """Run the study, and write what was found after every run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for kind, count in zip(KINDS, (30, 10, 2), strict=True):
        parser.add_argument(f"--{kind}s", type=int, default=count)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of an audit: how long it lasts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    told = parser.parse_args()
    path = told.out / "ray_kills.json"
    told.out.mkdir(parents=True, exist_ok=True)
    empty = {"seed": told.seed, "epochs": told.epochs, "runs": 0, "killed": {}, "said": {}, "different": [], "full": ""}
    kept = json.loads(path.read_text()) if path.exists() else empty
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = place / "settings.toml"
        os.environ["LOCUS_CACHE"] = str(place / "cache")
        made = wide.settings(place / "wide", **SETTINGS, epochs=told.epochs)
        settings.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in made.items()))
        begun = time.monotonic()
        subprocess.run(command(settings, place / "WHOLE", "serial"), check=True, capture_output=True)
        pause, whole = time.monotonic() - begun, content(place / "WHOLE")
        kept["trials"] = len(whole["trials"])

        def keep(dealing: Dealing, out: Path) -> None:
            kept["different"] += [f"{out.name}: {part}" for part in differs(out, whole)]
            for name, counts in (("killed", dealing.dealt), ("said", dealing.said)):
                kept[name] = dict(Counter(kept[name]) + counts)
            path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            path.with_suffix(".md").write_text("\n".join(table(kept)) + "\n", encoding="utf-8")
            print(f"{kept['runs']} runs ended, {len(kept['different'])} differ", flush=True)
            shutil.rmtree(out)

        while (left := Counter({kind: getattr(told, f"{kind}s") for kind in KINDS}) - Counter(kept["killed"])).total():
            out = place / f"RUN-{kept['runs']}"
            dealing = Dealing(left, random.Random(f"{told.seed} {kept['runs']}"))
            while attempt(settings, out, dealing, pause):
                pass
            kept["runs"] += 1
            keep(dealing, out)
        if not kept["full"]:
            whole_size = sum(path.stat().st_size for path in (place / "WHOLE").rglob("*") if path.is_file())
            kept["full"] = full(settings, place, whole_size // 2)
            print(kept["full"], flush=True)
            dealing = Dealing(Counter(), random.Random(0))
            while attempt(settings, place / "FULL", dealing, pause):
                pass
            keep(dealing, place / "FULL")
    return 1 if kept["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
