"""What each committed study took, from its verdict.json: `python studies/cost/table.py` prints the last table of docs/cost.md.

The last column scales a SmolLM2 study's multiply-adds by what those of the study of TruthfulQA grow by with the shapes of an
8-billion model (cost.py), at half of a GPU's rate by its data sheet; of 100 GPUs each does one
trial at a time, all alike.
"""

import json
import math
from pathlib import Path

HERE = Path(__file__).parents[1]
GROWTH = (
    1.48e16 / 2.57e14
)  # multiply-adds of the TruthfulQA study with the shapes of Llama-3.1-8B, and as it was run (docs/cost.md)
RATE = 989e12 / 2 / 2  # multiply-adds a second: half of the H200's data sheet, a multiply-add being two operations


def row(path: Path) -> str:
    """One study."""
    figures = json.loads(path.read_text(encoding="utf-8"))
    name, total = str(path.parent.relative_to(HERE)), figures["cost"]["total"]
    cells = [f"[{name}](../studies/{name}/README.md)" if (path.parent / "README.md").exists() else name, f"{total['trials']}"]
    cells += [f"{total['seconds']:,.0f}"]
    if total["macs"] is None:
        return f"| {' | '.join([*cells, '-', 'counted above', '-', '-'])} |"
    cells += [f"{total['tokens']:,.0f}", f"{total['macs']:.2e}"]
    if figures["model"]["name"].startswith("smollm2"):
        seconds = total["macs"] * GROWTH / RATE
        cells += [f"{seconds:.1f}", f"{seconds / min(total['trials'], 100) * math.ceil(total['trials'] / 100):.2f}"]
    else:
        cells += ["-", "-"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print("| study | trials | seconds of trials | tokens | multiply-adds | 8 billion, one GPU, s | 100 GPUs, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for path in sorted(HERE.rglob("verdict.json")):
        print(row(path))


if __name__ == "__main__":
    main()
