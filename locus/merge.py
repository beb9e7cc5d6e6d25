"""The verb after an audit in parts: put their run folders together, and conclude.

Parts know nothing of one another, so they are believed only as far as they agree: one plan to the last byte, no trial that it
does not name, no two accounts of one trial, none missing. A look at the verdict is taken after fixed numbers of random Locations,
in the order in which the plan drew them; so it does not matter who ran which, or that some were run which one machine would have
spared itself.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from locus import atomic
from locus.boundary import incoming, outputs
from locus.conclude import derive as conclude
from locus.edits.base import MOST_BYTES
from locus.errors import UserError
from locus.plan import reading
from locus.plan.trials import UNEDITED
from locus.records.plan import DRAWN, PlanRecord
from locus.records.store import Store
from locus.records.store import reading as reading_store
from locus.records.taken import outcome, take
from locus.records.verdict import Verdict
from locus.report import page, receipt

PLAN_FIXED, DEVICE = "plan_fixed", "device"  # what a store notes


def merge(parts: Sequence[Path], out: Path, sign: bool = True) -> Verdict:
    """Put the run folders of an audit's parts together into one, with its verdict, page and receipt; all of it or nothing.

    Args:
        parts: their run folders; what two of them hold alike is taken once.
        out: a new folder, or an empty one.
        sign: whether the user's key signs the receipt.

    Raises:
        UserError: if they are not parts of one plan, contradict one another, or leave something out.
    """
    started = time.monotonic()
    outputs.check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise UserError("a new folder to merge into", f"{str(out)!r} with files in it", "Give another --out.")
    plan = _plan(parts)
    with ExitStack() as stack, atomic.room():
        stores = {part: stack.enter_context(reading_store(part / "trials.sqlite")) for part in parts}
        taken = _taken(plan, stores)
        whole = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=atomic.MARK, dir=_holder(out)))) / "RUN"
        atomic.folder(whole / "edits")
        shutil.copyfile(parts[0] / "plan.json", whole / "plan.json")
        _copy_edits(plan, taken, whole / "edits")
        store = Store(whole / "trials.sqlite")
        stack.callback(store.close)
        _note(store, list(stores.values()))
        for part, trials in taken.items():
            take(store, stores[part], trials)
        _no_gaps(plan, store, whole)
        verdict = conclude.write(whole, store, time.monotonic() - started, plan)
        receipt.write(whole, store, _devices(list(stores.values())), sign)
        page.write(whole, figures=False, sign=sign)
        store.close()
        whole.replace(out)
    return verdict


def _plan(parts: Sequence[Path]) -> PlanRecord:
    """The one plan of all parts.

    Raises:
        UserError: naming the first part that has another.
    """
    if not parts:
        raise UserError("the run folders of an audit's parts", "none", "Name them all.")
    first, plan = (
        (parts[0] / "plan.json").read_bytes() if (parts[0] / "plan.json").is_file() else b"",
        reading.read_plan(parts[0]),
    )
    for part in parts[1:]:
        other = reading.read_plan(part)
        if (part / "plan.json").read_bytes() != first:
            one, two = plan.to_json(), other.to_json()
            differ = [name for name in sorted({*one, *two}) if one.get(name) != two.get(name) and name != "sha256"]
            raise UserError(
                f"parts of the plan of {str(parts[0])!r}",
                f"{str(part)!r} with another one ({', '.join(differ)[:200] or 'written otherwise'} differ)",
                "Run each part with the same settings on machines that compute alike; one may begin with another's plan.json.",
            )
    return plan


def _taken(plan: PlanRecord, stores: dict[Path, Store]) -> dict[Path, list[str]]:
    """Which trials are taken from which part.

    Raises:
        UserError: naming the first trial that is not the plan's, or of which two parts say different things.
    """
    planned, owner = {trial.id for trial in plan.trials}, dict[str, Path]()
    for part, store in stores.items():
        done = store.done()
        if foreign := sorted(done - planned):
            raise UserError(
                "trials that the plan names",
                f"{foreign[0][:40]!r} in {str(part)!r}",
                "Leave that folder out, or ask for it again.",
            )
        for trial in sorted(done):
            if trial in owner and outcome(store, trial) != outcome(stores[owner[trial]], trial):
                raise UserError(
                    "parts that agree",
                    f"trial {trial} with other results in {str(part)!r} than in {str(owner[trial])!r}",
                    "One of the two was computed otherwise: leave it out, and run its part again.",
                )
            owner.setdefault(trial, part)
    return {part: [trial for trial, of in owner.items() if of == part] for part in stores}


def _copy_edits(plan: PlanRecord, taken: dict[Path, list[str]], to: Path) -> None:
    """Copy the files of the edits.

    Raises:
        UserError: if one is missing.
    """
    edited = {trial.id for trial in plan.trials if trial.edit != UNEDITED}
    for part, trials in taken.items():
        for trial in edited.intersection(trials):
            path = part / "edits" / f"{trial}.safetensors"
            if not incoming.regular(path, inside=part):
                raise UserError("the edit of every finished trial", f"none of {trial} in {str(part)!r}", "Run that part again.")
            atomic.replace(to / path.name, incoming.read_bytes(path, "a saved edit (safetensors)", MOST_BYTES))


def _no_gaps(plan: PlanRecord, store: Store, whole: Path) -> None:
    """See that nothing is missing but random Locations that could change nothing more.

    Raises:
        UserError: saying how much is.
    """
    done = store.done()
    missing = [trial for trial in plan.trials if trial.id not in done]
    if missing and not (all(trial.role in DRAWN for trial in missing) and conclude.enough(whole, store)):
        raise UserError(
            "all trials of the plan",
            f"{len(missing)} of {len(plan.trials)} missing, {missing[0].role} {missing[0].arm[:60]} the first of them",
            "Name the other parts' folders too, or let the parts run to their end: the same commands go on from there.",
        )


def _note(store: Store, parts: Sequence[Store]) -> None:
    """Note when the plan was first fixed."""
    fixed = sorted((note.partition(" ")[2], note) for part in parts if (note := part.meta(PLAN_FIXED)))
    if fixed:
        store.note(PLAN_FIXED, fixed[0][1])


def _devices(parts: Sequence[Store]) -> str:
    return ", ".join(sorted({device for part in parts if (device := part.meta(DEVICE))})) or "not stated"


def _holder(out: Path) -> Path:
    """The folder in which the new one will lie."""
    return atomic.folder(out.absolute().parent)
