"""What audits of large models, and a thousand of a small one, take on many devices: the tables of docs/scale.md.

    python -m studies.forecast            # count the plans that are not counted (the small model is loaded), write the tables
    python -m studies.forecast --tables   # the tables alone, from studies/forecast/loads.json

Nothing is trained. A plan is counted on the small model's tokens and reckoned in the shape of the larger; its banks are then
played through.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from locus.door.asked import asked
from locus.door.forecasting import Load, Machine, Point, load_of, points_of
from locus.door.planned import in_words
from locus.plan.opened import NOTHING
from locus.plan.shape import shape_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOADS, PAGE = HERE / "forecast" / "loads.json", ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- forecast -->", "<!-- end of forecast -->"
H200 = Machine(rate=2.5e14, memory=141e9, link=1e9, failures=0.01)
PAIR = Machine(rate=2.5e14, memory=282e9, link=1e9, failures=0.02)
CORE = Machine(rate=2.5e10, link=1e9, failures=0.001)
SWEEP = 1000  # audits
# What is planned: title, machine, shape, how many, settings, numbers of devices.
PLANS: tuple[tuple[str, Machine, str, int, dict[str, Any], tuple[int, ...]], ...] = (
    ("8 billion parameters, an H200 each", H200, "8b", 1, {"preset": "quick"}, (1, 2, 4, 8, 16)),
    ("the same, one edit a bank", H200, "8b", 1, {"preset": "quick", "bank": 1}, (1, 2, 4, 8, 16, 32, 64)),
    ("70 billion parameters, a pair of H200 each", PAIR, "70b", 1, {"preset": "quick"}, (1, 2, 4, 8, 16)),
    ("1,000 audits of SmolLM2-135M, a core each", CORE, "", SWEEP, {"preset": "quick"}, (1, 10, 100, 500, 1000)),
)


def count() -> None:
    """Count what is not counted yet, plan after plan, and keep it."""
    from locus.models.load import load

    kept = {one["title"]: one for one in json.loads(LOADS.read_text(encoding="utf-8"))} if LOADS.is_file() else {}
    LOADS.parent.mkdir(parents=True, exist_ok=True)
    model = load()
    for title, machine, shape, _, settings, _ in PLANS:
        if title in kept:
            continue
        told = dict(settings)
        resolved, opened = asked(model, None, None, told.pop("preset"), None, told)
        target = shape_of(ROOT / "docs" / "shapes" / f"{shape}.json") if shape else None
        (made, what), _ = load_of(resolved, opened or NOTHING, machine, None, target, lambda what, share: None)
        kept[title] = {"title": title, "what": what, **asdict(made)}
        LOADS.write_text(json.dumps([kept[plan[0]] for plan in PLANS if plan[0] in kept], indent=1) + "\n", encoding="utf-8")
        print(what, flush=True)


def loads() -> list[Load]:
    """Those that are kept."""
    kept = json.loads(LOADS.read_text(encoding="utf-8"))
    assert [one["title"] for one in kept] == [plan[0] for plan in PLANS], "count the plans"
    return [
        Load(
            **{**{name: one[name] for name in ("alone", "held", "loading", "opening")}, "waves": tuple(map(tuple, one["waves"]))}
        )
        for one in kept
    ]


def table() -> str:
    """The tables, in Markdown."""
    lines = []
    for (title, machine, _, count, _, devices), load in zip(PLANS, loads(), strict=True):
        banks = "" if count > 1 else f", {sum(map(len, load.waves))} banks"
        size = f"{load.held / 1e9:.0f} GB on a device" if load.held >= 1e10 else f"{load.held / 1e9:.1f} GB on a device"
        lines += [f"**{title[:1].upper()}{title[1:]}**{banks}, {size}:", ""]
        lines += ["| devices | time | nine in ten | device-hours | of use |", "| ---: | ---: | ---: | ---: | ---: |"]
        lines += [_row(point) for point in points_of([load] * count, devices, machine)]
        lines.append("")
    return "\n".join(lines[:-1])


def _row(one: Point) -> str:
    between, hours = f"{in_words(one.least)} to {in_words(one.most)}", one.devices * one.seconds / 3600
    return f"| {one.devices:,} | {in_words(one.seconds)} | {between} | {hours:,.2f} | {one.efficiency:.0%} |"


def write() -> None:
    """Put the tables between the marks of the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{begin}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    """Count what is planned, unless only the tables are asked for, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="from what was counted")
    if not parser.parse_args().tables:
        count()
    write()


if __name__ == "__main__":
    main()
