"""The table of docs/speed.md from what `benchmarks/gpu.py` wrote: a cell of what was not measured says so."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu import DONE, OUT
from locus.models.locate import DEFAULT_MODEL

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- made by benchmarks/gpu_page.py -->", "<!-- end of what it makes -->"
NOT = "*not measured*"
NAMES = {
    DEFAULT_MODEL: "SmolLM2-135M",
    "random:8b": "Llama-3.1-8B's shape, random weights",
    "random:tiny": "three narrow layers, random weights",
}
ABSENT: dict[str, Any] = {"setting": {"banks": [1, 8, 64], "models": [DEFAULT_MODEL, "random:8b"]}, "parts": []}

Numbers = dict[str, Any]
Look = Callable[[str, str], Numbers]  # a part's name and what it measured -> the numbers, {} where there are none


def _looking(content: dict[str, Any], model: str | None = None) -> Look:
    """Where a model's numbers are found; any model's by default."""

    def look(part: str, what: str) -> Numbers:
        ones = (one for one in content["parts"] if one["part"] == part and model in (None, one["model"]))
        numbers: Numbers = next(ones, {"found": {}})["found"].get(what, {})
        return numbers

    return look


def _cell(made: Callable[[Numbers], str], numbers: Numbers) -> str:
    """What a function makes of numbers, if there are any and the work was done."""
    return NOT if not numbers else str(numbers.get("failed", "")) or made(numbers)


def _rate(tokens: float, macs: float, seconds: float, anywhere: Look) -> str:
    """Tokens a second, and the shares of the rates that are known."""
    measured = anywhere("device", "product").get("macs_per_second")
    peak = anywhere("device", "device").get("peak")
    shares = [f"{100 * share:.1f} %" for share in (macs / seconds / one for one in (measured, peak and peak / 2) if one)]
    return f"{tokens / seconds:,.0f}" + (f" ({', '.join(shares)})" if shares else "")


def _checks(numbers: Numbers) -> str:
    """How many checks held, how near the nearest came to its tolerance, and what is done without."""
    each = numbers["checks"]
    nearest = max(
        (one["difference"] / one["allowed"] for one in each if one["allowed"] and one["difference"] is not None), default=0
    )
    off = f"; without {', '.join(numbers['off'])}" if numbers["off"] else ""
    return f"{sum(one['passed'] for one in each)} of {len(each)}, at most {100 * nearest:.2g} % of a tolerance{off}"


def _banks(numbers: Numbers, trained: bool, anywhere: Look) -> str:
    what, macs, seconds = ("trained", "macs", "seconds") if trained else ("scored", "scoring_macs", "scoring")
    taken = numbers[seconds]
    return _rate(numbers[what] * taken, numbers[macs], taken, anywhere)


def _rows(look: Look, anywhere: Look, banks: list[int]) -> dict[str, str]:
    """By what is measured, one model's cells."""
    rows = {f"checks that hold, {kind}": _cell(_checks, look(f"checks, {kind}", kind)) for kind in ("bfloat16", "float32")}
    for edits in banks:
        found, name = look("banks", str(edits)), "one edit" if edits == 1 else f"a bank of {edits}"
        rows[f"training, {name}"] = _cell(lambda one: _banks(one, True, anywhere), found)
        rows[f"scoring, {name}"] = _cell(lambda one: _banks(one, False, anywhere), found)
        rows[f"most memory of both, {name}, GB"] = _cell(lambda one: f"{one['peak'] / 1e9:.2f}", found)
    rows["a bank, times as fast as its edits one by one"] = _cell(
        lambda one: (
            f"{one['apart'] / one['together']:.1f} (of {one['edits']}; losses at most {one['difference']:.1e} apart, as a share)"
        ),
        look("alone", "banks"),
    )
    for name, what in (("the search's linearisation", "linearisation"), ("one round of the search, a bank", "round")):
        rows[name] = _cell(lambda one: _rate(one["tokens"], one["macs"], one["seconds"], anywhere), look("newton", what))
    for name, part, what in (
        ("speech, locus", "speech", "locus"),
        ("speech, transformers' `generate`", "speech", "generate"),
        ("speech, vLLM with LoRA", "vllm", "vllm"),
    ):
        rows[name] = _cell(lambda one: f"{one['tokens'] / one['seconds']:,.0f}", look(part, what))
    rows["share of texts that `generate` says alike"] = _cell(
        lambda one: f"{100 * one['alike']:.0f} %" if "alike" in one else NOT, look("speech", "generate")
    )
    rows["largest model of such layers, reckoned, billions of parameters"] = _cell(
        lambda one: f"{one['parameters'] / 1e9:.1f} ({one['layers']} layers)", look("largest", "largest")
    )
    return rows


def _about(anywhere: Look) -> str:
    """The device, and what large products reach on it."""
    device, product = anywhere("device", "device"), anywhere("device", "product")
    if not device:
        return "Device, versions, rate of one large product: *not measured*, since no GPU has been at hand."
    known = ", ".join(f"{name} {number}" for name, number in device["versions"].items())
    rate = f"{2 * product['macs_per_second'] / 1e12:.3g}" if product else NOT
    peak = f"{device['peak'] / 1e12:.0f} in its data sheet" if device["peak"] else "its data sheet's is not known here"
    return (
        f"{device['name']}, {device['memory'] / 1e9:.0f} GB. One large product in bfloat16: {rate} tera-operations a second, "
        f"{peak}. {known}."
    )


def table(content: dict[str, Any] | None) -> str:
    """The table and what it was measured on, as Markdown; of nothing, a table that says so."""
    content = content or ABSENT
    setting, anywhere = content["setting"], _looking(content)
    models = list(dict.fromkeys(setting["models"]))
    columns = {model: _rows(_looking(content, model), anywhere, setting["banks"]) for model in models}
    lines = [textwrap.fill(_about(anywhere), 100), ""]
    lines.append("| tokens a second, or what is said | " + " | ".join(NAMES.get(model, model) for model in models) + " |")
    lines.append("| --- |" + " --- |" * len(models))
    for name in columns[models[0]]:
        lines.append(f"| {name} | " + " | ".join(rows[name] for rows in columns.values()) + " |")
    wanting = [f"- {one['part']}, {one['model']}: {one['standing']}" for one in content["parts"] if one["standing"] != DONE]
    if wanting:
        lines += ["", "Not done to the end:", "", *(textwrap.fill(one, 100, subsequent_indent="  ") for one in wanting)]
    return "\n".join(lines) + "\n"


def page(text: str, content: dict[str, Any] | None) -> str:
    """A page with the table put between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(content)}\n{END}{after}"


def kept() -> dict[str, Any] | None:
    """What a GPU was measured to do, if one was."""
    return json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else None


def write() -> None:
    """Make the page's table anew from what is kept."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")


if __name__ == "__main__":
    write()
