"""RESULTS.md from the tables' JSON, so that a table can be run alone and the page is never edited by hand."""

import json
import os
import platform
import statistics
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.material import device

HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "trl", "peft", "lm_eval", "transformer_lens")


def machine(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the numbers depend on: cores, threads, matrix rate while the table ran, versions. No names, no paths."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    rates = [one["rate"] / 1e9 for one in found]
    return {
        "gpu": torch.cuda.get_device_name() if device() == "cuda" else None,
        "cores": os.cpu_count(),
        "threads": found[0]["threads"],
        "processor": platform.machine(),
        "gigamacs": [min(rates), statistics.median(rates), max(rates)],
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
    }


def save(number: int, table: dict[str, Any], setting: dict[str, Any], where: Path) -> None:
    """Write one table's JSON whole or not at all."""
    found = list(_flat(table.pop("found")))
    for one in found:
        one.pop("check", None)
    content = {"table": number, **table, "setting": setting, "machine": machine(found), "raw": found}
    where.mkdir(parents=True, exist_ok=True)
    partial = where / f".table-{number}.{os.getpid()}"
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(where / f"table-{number}.json")


def _flat(found: Any) -> Iterator[dict[str, Any]]:
    for one in found:
        if isinstance(one, dict):
            yield one
        else:
            yield from _flat(one)


def render(results: Path, page: Path) -> None:
    """Write the page from whatever tables are there."""
    parts = [
        "# Speed\n",
        "Written by `python -m benchmarks` from `results/*.json`. Sides are run turn by turn, each in a process of its own; "
        "times are medians. The floor is the multiply-adds that must be done at the matrix rate that same process reached before "
        "and after its work: 100 % would be nothing but matrix products at full speed. A shared prefix counts once. What is in "
        "the way of training and scoring is said, operation by operation, in table 9; of the rest in docs/log.\n",
    ]
    tables = (json.loads(path.read_text(encoding="utf-8")) for path in results.glob("table-*.json"))
    parts += [_table(table) for table in sorted(tables, key=lambda table: table["table"])]
    page.write_text("\n".join(parts), encoding="utf-8")


def _table(table: dict[str, Any]) -> str:
    """One table as Markdown: numbers, aims, checks, notes, machine."""
    lines = [f"## {table['table']}. {table['title']}\n"]
    lines.append("| " + " | ".join(table["columns"]) + " |")
    lines.append("|" + " --- |" * len(table["columns"]))
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in table["rows"]]
    lines.append("")
    for aim in table["aims"]:
        said = "reached" if aim["reached"] else "NOT reached"
        lines.append(f"- {said}: {aim['what']} {aim['measured']:.4g}, aim {aim['aim']:g}")
    for check in table["checks"]:
        said = "the same on both sides" if check["same"] else "NOT the same"
        apart = f"at most {check['apart']:.1e} apart (allowed {check['allowed']:.0e})"
        lines.append(f"- {said}: {check['what']}, {check['n']} values over a range of {check['range']:.2f}, {apart}")
    lines += [f"- {note}" for note in table["notes"]]
    facts, setting = table["machine"], table["setting"]
    low, middle, high = facts["gigamacs"]
    on = f"{facts['gpu']}, " if facts.get("gpu") else ""
    packages = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines.append(
        f"\n{setting['model']} on {setting['data']}, size `{setting['size']}`. {on}{facts['cores']} cores "
        f"({facts['processor']}), {facts['threads']} thread(s), {middle:.0f} billion multiply-adds a second "
        f"({low:.0f} to {high:.0f}), "
        f"load {facts['load']:.1f}. Python {facts['python']}, {packages}.\n"
    )
    return "\n".join(lines)
