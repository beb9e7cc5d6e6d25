"""`locus doctor`: versions, device, checks of the model, and which data can be had."""

import os
import shutil

import torch

from locus import behaviours as datasets
from locus.behaviours.encoding import added_by
from locus.behaviours.prompts import prompt_format
from locus.boundary.terminal import Console, Text
from locus.conclude.derive import versions
from locus.engine import checks
from locus.engine.cache import Cache
from locus.errors import UserError
from locus.metrics.drift import load_text
from locus.models.layout import UNLIMITED
from locus.models.load import load
from locus.models.locate import DEFAULT_MODEL, home
from locus.models.model import Model
from locus.models.shortcuts import told


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
    try:
        model = load(name or DEFAULT_MODEL, adapter=adapter)
    except UserError as error:
        console.print(Text(f"model: {error}", style="red"))
        return False
    layout = model.layout
    text = prompt_format(model.tokenizer)
    console.print(
        Text(f"model {model.name}: {layout} ({layout.n_kv_heads} key-value) at {layout.shape}, prompt format {text.name}")
    )
    console.print(Text(_reads(model)))
    for notice in text.notices:
        console.print(Text(f"  {notice}", style="yellow"))
    found = checks.run_checks(model, text)
    for one in found:
        console.print(Text(f"  {one}", style="" if one.passed else "red"))
    for said in told(model.off):
        console.print(Text(f"  {said}", style="yellow"))
    return all(one.passed for one in found)


def _reads(model: Model) -> str:
    """How much the model reads, and what its tokenizer adds to a text, in one line."""
    before, behind = (" ".join(model.tokenizer.convert_ids_to_tokens(ids)) for ids in added_by(model.tokenizer))
    limit = "without a limit that it states" if model.context == UNLIMITED else f"up to {model.context:,} tokens"
    closing = f"{behind} behind it (left off)" if behind else "nothing behind it"
    return f"  reads {limit}; its tokenizer puts {before or 'nothing'} before a text, {closing}"


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
