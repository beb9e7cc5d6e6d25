"""A patching run as a folder: settings first, finished batches as they come, patch.json last."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locus import atomic
from locus.behaviours.items import content_hash
from locus.boundary import incoming, outputs
from locus.errors import UserError
from locus.patching.outcome import Outcome
from locus.patching.settings import SINCE_FIRST, PatchConfig
from locus.patching.sweep import Keep, Values
from locus.records.patch import PatchRecord


def begin(config: PatchConfig, out: Path) -> PatchRecord | None:
    """Note the configuration in the folder; what it holds, if it was finished with the same one.

    Raises:
        UserError: if the folder holds something else.
    """
    path, new = out / "config.json", config.model_dump(mode="json")
    outputs.check_folder(out)
    if out.exists() and any(out.iterdir()) and not path.exists():
        raise UserError("an empty folder or one of this run", f"{str(out)!r} with other files", "Give another --out.")
    if path.exists():
        old = incoming.read_json(path, "the settings of a patching run", inside=out)
        if not isinstance(old, dict):
            raise UserError("a patching run's config.json", f"{str(path)!r} without settings", "Give another --out.")
        old = SINCE_FIRST | old
        if old != new:
            noted = old if isinstance(old, dict) else {}
            pairs = [(name[:80], noted.get(name), new.get(name)) for name in sorted({*noted, *new})]
            differ = [f"{name}: {one!r:.120} there, {two!r:.120} now" for name, one, two in pairs if one != two]
            raise UserError(
                "the settings that this folder was begun with", "; ".join(differ), "Give another --out, or the same settings."
            )
        if (out / "patch.json").exists():
            return read_map(out)
        return None
    try:
        atomic.folder(out)
        atomic.replace(path, json.dumps(new, indent=1) + "\n")
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(out)!r} ({error})", "Give another --out.") from error
    return None


def read_map(out: Path) -> PatchRecord:
    """What a finished patching run found, from its folder.

    Raises:
        UserError: if there is no such file, or it is no such record.
    """
    expected = "the patch.json of a finished `locus patch` run"
    content = incoming.read_json(out / "patch.json", expected, inside=out)
    try:
        return PatchRecord.parse(content)
    except ValueError as error:
        raise UserError(expected, f"{str(out / 'patch.json')!r} ({error})", "Patch again into another --out.") from error


def _read_batch(path: Path, inside: Path) -> Values:
    """The values of one finished batch.

    Raises:
        UserError: if they are not three arrays of numbers.
    """
    expected = "a finished batch of a patching run"
    try:
        with np.load(io.BytesIO(incoming.read_bytes(path, expected, BATCH_BYTES, inside)), allow_pickle=False) as arrays:
            values = arrays["clean"], arrays["corrupted"], arrays["patched"]
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            expected, f"{str(path)!r} ({type(error).__name__})", "Remove that file; the batch is run again."
        ) from error
    if not all(isinstance(one, np.ndarray) and one.dtype.kind == "f" for one in values):
        raise UserError(expected, f"{str(path)!r} with other values", "Remove that file; the batch is run again.")
    return values


BATCH_BYTES = 1 << 30


@dataclass
class Parts:
    """Values of finished batches, one file each, so that a run that was stopped goes on.

    Attributes:
        out: the run folder.
        key: what the values depend on besides the batch.
        say: told the share that is done.
    """

    out: Path
    key: list[Any]
    say: Callable[[float], None]

    def keep(self, count: int) -> Keep:
        """Where `measure` leaves its batches.

        Args:
            count: examples in all.
        """
        folder = atomic.folder(self.out / "parts")
        n_done = 0

        def keep_batch(members: Sequence[int], make: Callable[[], Values]) -> Values:
            nonlocal n_done
            path = folder / f"{content_hash([self.key, list(members)])[:24]}.npz"
            if path.exists():
                values = _read_batch(path, self.out)
            else:
                values, packed = make(), io.BytesIO()
                np.savez(packed, clean=values[0], corrupted=values[1], patched=values[2])
                atomic.replace(path, packed.getvalue())
            n_done += len(members)
            self.say(n_done / count)
            return values

        return keep_batch


def write_effects(out: Path, outcomes: Sequence[Outcome]) -> str:
    """Effects of every example, one row a map, component and example: metric values of the clean, corrupted and patched run, and
    the effect.

    Returns:
        The SHA-256 of effects.parquet.
    """
    import pyarrow
    import pyarrow.parquet

    tables = []
    for outcome in outcomes:
        count, n = outcome.map.patched.shape
        columns: dict[str, Sequence[object] | npt.NDArray[Any]] = {
            name: [value] * (count * n) for name, value in dict(outcome.setting).items()
        }
        columns |= {
            "component": np.repeat(np.array(outcome.map.names, dtype=object), n),
            "example": np.tile(np.arange(n), count),
            "clean": np.tile(outcome.map.clean, count),
            "corrupted": np.tile(outcome.map.corrupted, count),
            "patched": outcome.map.patched.ravel(),
            "effect": outcome.effects.values.ravel(),
        }
        tables.append(pyarrow.table(columns))
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), packed)
    atomic.replace(out / "effects.parquet", packed.getvalue())
    return hashlib.sha256(packed.getvalue()).hexdigest()


def finish(out: Path, record: PatchRecord) -> None:
    """patch.json, last, for it says that all is done."""
    atomic.replace(out / "patch.json", json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")
    atomic.sweep(out, out / "parts", out / "figures")
    for batch_file in (out / "parts").glob("*.npz"):
        batch_file.unlink()
    (out / "parts").rmdir()
