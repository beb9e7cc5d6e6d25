"""One measured piece of work in a process of its own, so that peak memory is its own: `python -m benchmarks.worker JOB`."""

import importlib
import json
import resource
import sys
from typing import Any


def main() -> None:
    """Run a job given as JSON (side, arguments) and print what it measured as the last line."""
    from locus.machine import threads

    threads.settle()
    job: dict[str, Any] = json.loads(sys.argv[1])
    import torch

    from benchmarks import floor, material

    module, function = job["side"].split(".")
    before = floor.matrix_rate()
    found = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**job["arguments"])
    found["rate"] = (before + floor.matrix_rate()) / 2
    # Of the largest process: what forked workers share with their parent would be counted twice in a sum.
    found["peak_mb"] = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    if material.device() != "cpu":
        found["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    found["threads"] = torch.get_num_threads()
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
