"""Open a run of many trials, go on with it and conclude it, importing what a command that concludes does and no more.

`python -m benchmarks.scale.looked RUN`, as `benchmarks.scale.store` calls it. A run is gone on with and concluded by one command,
which reads the plan once.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from locus.machine.threads import settle

settle()

from locus.conclude import derive  # noqa: E402
from locus.conclude.stopping import Stopping  # noqa: E402
from locus.plan.reading import read_plan  # noqa: E402
from locus.records.plan import PlanRecord  # noqa: E402
from locus.records.store import Store  # noqa: E402


def looked_at(folder: Path) -> dict[str, float]:
    """Seconds that one core computed for each step, and megabytes at the peak; a store without a plan is only listed."""
    found: dict[str, float] = {}

    def step(name: str, do: Callable[[], Any]) -> Any:
        begun = time.process_time()
        made = do()
        found[name] = round(time.process_time() - begun, 3)
        found[f"{name}_mb"] = round(peak())
        return made

    found["before_mb"] = round(peak())
    store = step("open", lambda: Store(folder / "trials.sqlite"))
    if not (folder / "plan.json").exists():
        step("resume", store.done)
        return found

    def resume() -> PlanRecord:
        plan = read_plan(folder)
        stopping, done = Stopping(plan, store), store.done()
        stopping()
        assert all(set(bank) <= done for bank in plan.banks)
        return plan

    plan = step("resume", resume)
    step("conclude", lambda: derive.write(folder, store, 0.0, plan))
    return found


def peak() -> float:
    """Megabytes that this process held at most; what `getrusage` says would be at least what its parent held."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(line) / 1024


if __name__ == "__main__":
    print(json.dumps(looked_at(Path(sys.argv[1]))))
