"""A patching run as a folder: settings first, finished batches as they come, patch.json last."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locus import incoming, outputs
from locus.datasets.items import content_hash
from locus.errors import UserError
from locus.patching import page
from locus.patching.outcome import Outcome
from locus.patching.settings import PatchConfig
from locus.patching.sweep import Keep, Values


def begin(config: PatchConfig, out: Path) -> dict[str, Any] | None:
    """Note the configuration in the folder; what it holds, if it was finished with the same one.

    Raises:
        UserError: if the folder holds something else.
    """
    path, new = out / "config.json", config.model_dump(mode="json")
    outputs.check_folder(out)
    if out.exists() and any(out.iterdir()) and not path.exists():
        raise UserError("an empty folder or one of this run", f"{str(out)!r} with other files", "Give another --out.")
    if path.exists():
        old = incoming.read_json(path, "a patching run's config.json", inside=out)
        if not isinstance(old, dict):
            raise UserError("a patching run's config.json", f"{str(path)!r} without settings", "Give another --out.")
        if old != new:
            differ = [f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in new if old.get(name) != new[name]]
            raise UserError(
                "the settings that this folder was begun with", "; ".join(differ), "Give another --out, or the same settings."
            )
        if (out / "patch.json").exists():
            finished: dict[str, Any] = incoming.read_json(out / "patch.json", "a patching run's patch.json", inside=out)
            return finished
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
        whole(path, json.dumps(new, indent=1) + "\n")
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(out)!r} ({error})", "Give another --out.") from error
    return None


def whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
        folder = self.out / "parts"
        folder.mkdir(exist_ok=True)
        done = 0

        def kept(members: Sequence[int], make: Callable[[], Values]) -> Values:
            nonlocal done
            path = folder / f"{content_hash([self.key, list(members)])[:24]}.npz"
            if path.exists():
                with np.load(path, allow_pickle=False) as held:
                    values = held["clean"], held["corrupted"], held["patched"]
            else:
                values = make()
                partial = path.with_name(f".{path.name}.{os.getpid()}.npz")
                np.savez(partial, clean=values[0], corrupted=values[1], patched=values[2])
                partial.replace(path)
            done += len(members)
            self.say(done / count)
            return values

        return kept


def write(out: Path, found: dict[str, Any], outcomes: Sequence[Outcome], seconds: float) -> None:
    """Effects of every example, figures, page; patch.json last, for it says that all is done."""
    _effects(out / "effects.parquet", outcomes)
    found["seconds"] = round(seconds, 1)
    found["effects_sha256"] = hashlib.sha256((out / "effects.parquet").read_bytes()).hexdigest()
    page.write(out, found)
    whole(out / "patch.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
    for part in (out / "parts").glob("*.npz"):
        part.unlink()
    (out / "parts").rmdir()


def _effects(path: Path, outcomes: Sequence[Outcome]) -> None:
    """One row a map, component and example: metric values of the clean, corrupted and patched run, and the effect."""
    import pyarrow
    import pyarrow.parquet

    tables = []
    for one in outcomes:
        count, n = one.map.patched.shape
        columns: dict[str, Any] = {name: [one.setting[name]] * (count * n) for name in one.setting}
        columns["component"] = np.repeat(np.array(one.map.names, dtype=object), n)
        columns["example"] = np.tile(np.arange(n), count)
        columns |= {
            "clean": np.tile(one.map.clean, count),
            "corrupted": np.tile(one.map.corrupted, count),
            "patched": one.map.patched.ravel(),
            "effect": one.effects.values.ravel(),
        }
        tables.append(pyarrow.table(columns))
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), partial)
    partial.replace(path)
