"""Rows of measurements, kept one by one: a program that was stopped goes on after the last. And audits, timed from outside."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import wide

HERE = Path(__file__).parent
Row = dict[str, Any]


class Kept:
    """The rows of one program, in a file beside it.

    Args:
        path: of the file, a JSON object a line.
    """

    def __init__(self, path: Path):
        self.path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self.rows: list[Row] = [json.loads(line) for line in text.splitlines()]

    def of(self, **key: Any) -> list[Row]:
        """The rows with these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def row(self, measure: Callable[[], Row], **key: Any) -> Row:
        """The row with these values; measured and kept, if there is none."""
        if not (found := self.of(**key)):
            row = {**key, **measure(), "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
            self.rows.append(row)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            found = [row]
        return found[0]

    def page(self, lines: Sequence[str]) -> None:
        """Write a table beside the rows, with what the numbers depend on, and print it."""
        loads = [row["load"] for row in self.rows]
        on = f"{os.cpu_count()} cores ({platform.machine()}), load {min(loads):.1f} to {max(loads):.1f} when measured."
        text = "\n".join([*lines, "", on]) + "\n"
        self.path.with_suffix(".md").write_text(text, encoding="utf-8")
        print(text)


def middle(rows: Sequence[Row], name: str) -> float:
    """The median of a value."""
    return statistics.median(row[name] for row in rows)


def timed(executor: str, threads: int, **settings: Any) -> Row:
    """Audit a small random model (tests/wide.py) in a process of its own, with nothing cached before.

    Returns:
        Seconds of the whole command, and of the banks added up; how many banks; multiply-adds, and how many a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        made = wide.settings(place / "wide", bank=1, **settings)
        told, out = place / "settings.toml", place / "RUN"
        told.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in made.items()), encoding="utf-8")
        command = [sys.executable, "-m", "locus", "audit", "--out", str(out), "--config", str(told), "--no-sign"]
        command += ["--set", f"executor={executor}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "LOCUS_CACHE": str(place / "cache")}
        begun = time.monotonic()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seconds = time.monotonic() - begun
        verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
        banks = len(json.loads((out / "plan.json").read_text(encoding="utf-8"))["banks"])
    took = verdict["cost"]
    return {
        "seconds": round(seconds, 2),
        "trials": round(verdict["seconds"]["trials"], 2),
        "banks": banks,
        "macs": took["total"]["macs"],
        "rate": took["macs_per_second"],
    }
