"""Draws of a calibration, appended to `draws.jsonl` as they finish: one that was killed goes on where it stopped."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from locus import atomic
from locus.behaviours.lines import FILE_BYTES
from locus.boundary import incoming, outputs
from locus.errors import UserError
from locus.records.base import Part
from locus.records.calibration import Draw, GradedDraw

DRAWS, WORKERS = 100_000, 1024
EXPECTED = "the folder of a calibration"


Job = TypeVar("Job")
D = TypeVar("D", Draw, GradedDraw)


def check_counts(draws: int, workers: int | None) -> None:
    """Refuse too few or too many draws or processes.

    Raises:
        UserError: if there are.
    """
    if not 1 <= draws <= DRAWS:
        raise UserError(f"1 to {DRAWS:,} draws", str(draws), "Mend --draws.")
    if workers is not None and not 1 <= workers <= WORKERS:
        raise UserError(f"1 to {WORKERS} processes", str(workers), "Mend --workers.")


def gather(
    out: Path,
    setting: Part,
    jobs: Mapping[Any, Job],
    record: type[D],
    work: Callable[[Job, Callable[[float], None]], D],
    workers: int | None,
    progress: Callable[[str, float], None],
) -> list[D]:
    """All draws of a folder, once those that are asked for and missing have been made.

    Args:
        out: folder; `draws.jsonl` and `settings.json` are kept there.
        setting: what the draws are of.
        jobs: key of a draw -> what it is made from, in the order in which they are made.
        record: the kind of draw.
        work: makes one.
        workers: processes; one a core by default.
        progress: told what was done and the share of it.

    Raises:
        UserError: for a folder with draws of other settings.
    """
    from locus.run.executors import side_by_side  # imports torch

    draws = _read(out, setting, record)
    have = {one.key for one in draws}
    missing = [job for key, job in jobs.items() if key not in have]
    whole = len(draws) + len(missing)
    with (out / "draws.jsonl").open("a", encoding="utf-8") as file:
        for one in side_by_side(missing, work, workers or os.cpu_count() or 1, lambda place, share: None):
            file.write(json.dumps(one.to_json()) + "\n")
            file.flush()
            draws.append(one)
            progress(" ".join(map(str, one.key[:2])), len(draws) / whole)
    return draws


def _read(out: Path, setting: Part, record: type[D]) -> list[D]:
    """The draws a folder holds; a last line cut short by a kill is dropped."""
    outputs.check_folder(out)
    atomic.folder(out)
    about, path = out / "settings.json", out / "draws.jsonl"
    if about.exists() and (old := incoming.read_json(about, EXPECTED, inside=out)) != setting.to_json():
        raise UserError(f"draws with {setting.to_json()}", str(old)[:200], "Give another --out.")
    atomic.replace(about, json.dumps(setting.to_json()) + "\n")
    content = incoming.read_bytes(path, EXPECTED, FILE_BYTES, inside=out) if path.exists() else b""
    *finished, unfinished = content.split(b"\n")  # every finished line ends in a newline
    if unfinished:
        atomic.replace(path, b"".join(line + b"\n" for line in finished))
    try:
        return [record.parse(incoming.parse_json(line)) for line in finished]
    except ValueError as error:
        raise UserError(EXPECTED, f"{str(path)!r} ({str(error)[:200]})", "Remove the line, or give another --out.") from error
