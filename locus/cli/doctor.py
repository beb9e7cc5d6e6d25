"""`locus doctor`: versions, device, checks of the model, and which data can be had."""

import os
import shutil

import torch

from locus import behaviours as datasets
from locus.boundary.terminal import Console, Text
from locus.door.examined import examine as examine_model
from locus.engine.cache import Cache
from locus.errors import UserError
from locus.machine.versions import versions
from locus.metrics.drift import load_text
from locus.models.locate import home


def examine(console: Console, name: str | None, adapter: str | None = None) -> bool:
    """Print what works on this machine; whether the model passed all checks."""
    console.print(Text(", ".join(f"{package} {number}" for package, number in versions().items())))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    console.print(Text(f"device {device}; {torch.get_num_threads()} threads of {os.cpu_count()} cores"))
    console.print(Text(_cached()))
    for source in ("misconceptions", "truthfulqa"):
        _report(console, f"data {source}", lambda source=source: f"{len(datasets.load(source).items)} questions")
    for source in ("pydoc", "openwebtext"):
        _report(console, f"text {source}", lambda source=source: f"{len(load_text(source, 4).passages)} passages")
    found = examine_model(name, adapter)
    for line in str(found).splitlines():
        style = "red" if "refused" in line or "FAIL" in line else "yellow" if line.strip() in (*found.why, *found.notices) else ""
        console.print(Text(line, style=style))
    return found.standing != "refused"


def _cached() -> str:
    """The cache in one line: where, how many entries, bytes against the limit, room on the disk."""
    used, place = Cache.standard().usage(), home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return (
        f"cache {home()}: {used.entries} entries, {used.nbytes / 1e9:.2f} of {used.limit / 1e9:.1f} GB (LOCUS_CACHE_GB); "
        f"{free / 1e9:.1f} GB free on the disk"
    )


def _report(console: Console, what: str, ask) -> None:  # type: ignore[no-untyped-def]
    try:
        console.print(Text(f"{what}: {ask()}"))
    except UserError as error:
        console.print(Text(f"{what}: not to be had ({error.received})", style="yellow"))
