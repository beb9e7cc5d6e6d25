"""The same audit with other seeds: how stable its verdict is over splits, random Locations and training."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.door.asked import asked
from locus.door.run import Run
from locus.door.showing import Wanted, note
from locus.door.verbs import TEMPORARY, audit
from locus.errors import UserError
from locus.models import devices
from locus.records.repeat import RepeatedClaim, RepeatRecord

if TYPE_CHECKING:
    from locus.claims.claim import Claim
    from locus.door.behaviour import Behaviour
    from locus.models.model import Model

LEAST, MOST = 2, 1000
OF_AUDIT = ("preset", "config", "sign", "budget_curve", "twin", "transfer", "also")  # options that are no settings


@dataclass(frozen=True)
class Repeats:
    """Audits that differ in their seed alone.

    Attributes:
        folder: of them all; `repeat.html` is their page.
        record: their answers, as in `repeat.json`.
        runs: each of them.
    """

    folder: Path
    record: RepeatRecord
    runs: tuple[Run, ...]

    @property
    def claims(self) -> tuple[RepeatedClaim, ...]:
        """What follows for each claim: `.count("special", "supported")`, `.leads`, `.stable`."""
        return self.record.claims

    def __repr__(self) -> str:
        from locus.conclude.stability import described

        lines = [f"{len(self.runs)} audits in {self.folder}"]
        return "\n".join(lines + [f"  {said}" for claim in self.claims for said in described(claim, self.record.metric)])


def repeat(
    count: int,
    model: "str | Model | None" = None,
    behaviour: "str | Behaviour | Any | None" = None,
    claim: "str | Claim | Sequence[str | Claim] | None" = None,
    *,
    out: str | Path | None = None,
    seed: int | None = None,
    progress: Wanted = None,
    **options: Any,
) -> Repeats:
    """Make an audit several times with other seeds, to see how stable its verdict is; `locus audit --repeat COUNT`.

    The seed is that of split, random Locations, starts and resampling. A claim that a probe finds is found anew in each.

    Args:
        count: how many audits.
        model: as of `audit`, as are all that follow.
        behaviour: the questions.
        claim: the claims.
        out: folder for them all: `repeat-1`, `repeat-2` ..., each a run folder, `repeat.json` and `repeat.html`. The same call
            again goes on where it stopped. Without it they live in a temporary folder.
        seed: of the first audit; each later one has the next.
        progress: as of `audit`.
        options: any other option or setting of `audit`.

    Returns:
        The audits with counts of their standings and their leads.

    Raises:
        UserError: as `audit`; if fewer than 2 audits are asked for, or the folder is that of one run.

    Example:
        >>> import locus
        >>> quick = {"epochs": 4, "train": 36, "progress": False, "sign": False}
        >>> repeats = locus.repeat(2, "planted:localized:3", claim="1.1", **quick)
        >>> repeats.claims[0].count("special", "supported"), len(repeats.claims[0].leads)
        (2, 2)
    """
    if not LEAST <= count <= MOST:
        raise UserError(f"{LEAST} to {MOST} repeated audits", str(count), "Leave --repeat out for one audit.")
    if out is not None and (Path(out) / "plan.json").exists():
        raise UserError("a folder for several runs", f"{str(out)!r}, which is one run", "Give another --out.")
    settings = {name: value for name, value in options.items() if name not in OF_AUDIT}
    preset, config = options.get("preset", "quick"), options.get("config")
    first = asked(model, behaviour, claim, preset, config, {**settings, "seed": seed})[0]
    devices.check_one(first.tp_plan)
    if first.model.startswith("planted:") and (model is None or isinstance(model, str)):
        model = first.model  # one whose name has no seed stays the same
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="locus-repeat-"))
    if out is None:
        note(TEMPORARY.format(folder), progress)
    runs = []
    for number in range(count):
        place = folder / f"repeat-{number + 1}"
        given = {**options, "out": place, "seed": first.seed + number, "progress": progress}
        runs.append(audit(model, behaviour, claim, **given))
    from locus.conclude.stability import gathered
    from locus.report.repeat import write

    receipts = {run.folder.name: run.receipt for run in runs}
    record = gathered([(run.folder.name, run.verdict) for run in runs], receipts)
    write(record, folder)
    return Repeats(folder, record, tuple(runs))
