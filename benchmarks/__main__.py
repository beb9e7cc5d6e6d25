"""`python -m benchmarks [TABLE ...]`: run tables by number, keep each as JSON, write RESULTS.md.

A table whose JSON is there for the same setting is skipped unless --again; so a run that was stopped goes on where it was.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from benchmarks import audits, material, patching, probes, report, speech, tables, where
from locus.models.locate import DEFAULT_MODEL

TABLES = {
    1: tables.training_everywhere,
    2: tables.training_at_heads,
    3: tables.multiple_choice,
    4: audits.whole_audits,
    5: tables.scaling,
    6: patching.every_head,
    7: speech.speaking,
    8: probes.probing,
    9: where.shares,
    10: tables.banks,
}
ON_A_GPU = (1, 2, 3, 4, 5, 10)


def main() -> int:
    """Run what is asked for; 1 if a table failed, or two sides did not compute the same thing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("tables", nargs="*", type=int, help=f"numbers, of {sorted(TABLES)}; all by default")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--data", default="misconceptions", help="as `locus audit --data`")
    parser.add_argument("--size", default="full", choices=sorted(tables.SIZES))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help=f"cuda: tables {ON_A_GPU}, in bfloat16")
    parser.add_argument("--out", type=Path, help="folder of results/ and RESULTS.md; one of its own for a GPU's by default")
    parser.add_argument("--again", action="store_true", help="run also what is there")
    told = parser.parse_args()
    numbers = told.tables or (sorted(TABLES) if told.device == "cpu" else ON_A_GPU)
    if unknown := set(numbers) - set(TABLES):
        parser.error(f"there are tables {sorted(TABLES)}, not {sorted(unknown)}.")
    if told.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch can use; it sees none.")
    if told.device == "cuda" and not set(numbers) <= set(ON_A_GPU):
        parser.error(f"on a GPU there are tables {ON_A_GPU}.")
    os.environ[material.TOLD] = told.device  # every job's process hears it
    out = told.out or (report.HERE if told.device == "cpu" else report.HERE / told.device)
    said = {
        "model": Path(told.model).name,
        "data": Path(told.data).name,
        "size": told.size,
        **({} if told.device == "cpu" else {"device": told.device}),
    }
    setting = tables.Setting(told.model, told.data, tables.SIZES[told.size], lambda text: print(text, flush=True))
    same = True
    for number in numbers:
        path = out / "results" / f"table-{number}.json"
        if path.exists() and not told.again and json.loads(path.read_text())["setting"] == said:
            print(f"table {number}: there already (--again runs it anew)")
            continue
        start = time.monotonic()
        print(f"table {number}", flush=True)
        try:
            table = TABLES[number](setting)
        except (RuntimeError, ValueError) as error:  # a side that failed; the other tables do not depend on it
            print(f"table {number} failed: {error}", file=sys.stderr, flush=True)
            same = False
            continue
        same = same and all(check["same"] for check in table["checks"])
        report.save(number, table, said, out / "results")
        report.render(out / "results", out / "RESULTS.md")
        print(f"table {number}: {time.monotonic() - start:.0f} s", flush=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
