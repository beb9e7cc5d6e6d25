"""A run as an object: its verdict, its scores, its figures, and its edits on a model."""

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.boundary import incoming, outputs
from locus.errors import UserError
from locus.records.verdict import Verdict
from locus.shown import visible

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from transformers import BatchEncoding

    from locus.door.attached import RunEdit
    from locus.plan.config import AuditConfig
    from locus.records.plan import PlanRecord
    from locus.report.material import Material
    from locus.report.verify import Verification


class Run:
    """A run folder, finished or still growing.

    Args:
        folder: where it lies.
        temporary: whether it lies in a temporary folder that nobody asked for.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: Path, temporary: bool = False):
        self.folder, self.temporary = folder, temporary

    @cached_property
    def _material(self) -> "Material":
        from locus import errors
        from locus.report import material

        with errors.whole("a run folder whose files are whole", self.folder):
            return material.read(self.folder)

    @cached_property
    def verdict(self) -> Verdict:
        """What follows: `verdict.special.standing`, `.interval`, `.p`; `verdict.claims`, or `verdict.claim(name)`."""
        return self._material.verdict

    @property
    def config(self) -> "AuditConfig":
        """The settings that it was run with."""
        from locus.plan.config import AuditConfig

        return AuditConfig.recorded(self._material.plan.config)

    @property
    def plan(self) -> "PlanRecord":
        """What it was to do, and by which rule it is judged: `run.plan.trials`."""
        return self._material.plan

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be run; the same call to `audit` with `out` goes on where it stopped."""
        return self.verdict.unfinished == 0 and (self.folder / "receipt.json").is_file()

    @property
    def receipt(self) -> str:
        """The id of its receipt; "" while there is none."""
        return self._material.receipt.id if self._material.receipt else ""

    def scores(self, metric: str | None = None) -> "pandas.DataFrame":
        """Every score of every question, a row each.

        Args:
            metric: only this one; all by default.

        Returns:
            A frame with the columns `question` (its id; of the texts for drift, the passage's), `split`, `role` (base, claim,
            random, ceiling, complement, shift ...), `arm`, `claim`, `read`, `setting`, `chosen` (whether this setting is the one
            that is reported), `seed`, `metric`, `value` (a fraction, or nats; NaN where unscored), `reason` (why it is) and
            `trial`.

        Raises:
            UserError: if there is no such metric.
        """
        from locus.door.tables import scores

        return scores(self.folder, metric)

    def edit(self, name: str = "claim") -> "RunEdit":
        """An edit that the run has made, to be attached to a model.

        Args:
            name: claim, ceiling, complement, shift, random-11, or a trial's id; of several seeds the first.

        Raises:
            UserError: naming what there is, if there is none of the name.
        """
        from locus.door.attached import RunEdit
        from locus.edits.base import load_edit
        from locus.report.export import find_trial

        trial = find_trial(self.folder, name)
        path = self.folder / "edits" / f"{trial}.safetensors"
        if not incoming.regular(path, inside=self.folder):
            raise UserError("an edit that is still there, as a regular file", f"no {path}", "Restore the run folder's edits.")
        return RunEdit(trial, name, load_edit(path), str(self._material.plan.context["model"]))

    def prompt(self, question: str, tokenizer: Any) -> "BatchEncoding":
        """A question as this run put it to the model, in its chat template or behind its primer, for `generate`.

        A bare question is another text than the one that edits were trained and scored on: the edited model may answer it
        otherwise. Of another prompt format than `bare`, ask by this.

        Args:
            question: any question.
            tokenizer: the model's.

        Returns:
            `input_ids` and `attention_mask`, each [1, tokens]; `.to(device)` moves them.
        """
        from locus.door.attached import prompted

        return prompted(self._material.plan.prompt, question, tokenizer)

    def plot(self, name: str = "verdict") -> "Figure":
        """A figure, as `report` writes them: verdict, head-map, iti, optimal-iti, random-heads, single-heads or mc-scores.

        Raises:
            UserError: if there is no such figure, or the run has no numbers for it.
        """
        from locus.report.figures import run
        from locus.report.figures.plot import picture_of

        drawings = {one.name: one for one in run.drawings(self._material) if one.rows}
        if name not in drawings:
            raise UserError("a figure that this run has numbers for", repr(name), f"There are: {', '.join(drawings)}.")
        return picture_of(drawings[name])

    def report(self, compare: "Sequence[Run | str | Path]" = (), sign: bool = True) -> Path:
        """Write report.html, the figures and how to cite the run.

        Args:
            compare: other runs, set beside it on its page.
            sign: whether your key signs the list of what was drawn.

        Returns:
            The path of the page.

        Raises:
            UserError: if a folder is no run, or nothing can be written there.
        """
        from locus.report.page import write

        others = [one.folder if isinstance(one, Run) else Path(one) for one in compare]
        return write(self.folder, others or None, sign=sign)

    def verify(self, expect: str | None = None) -> "Verification":
        """Check hashes and signature, and derive the verdict anew from the stored scores; see `locus.verify`.

        Raises:
            VerificationError: with the first thing that does not hold.
        """
        from locus.report.verify import verify

        return verify(self.folder, expect)

    def save(self, to: str | Path) -> "Run":
        """Copy the run to a new folder, and give the copy.

        Raises:
            UserError: if something is there already.
        """
        outputs.check_folder(Path(to), "to")
        if Path(to).exists():
            raise UserError("a new folder", f"{str(to)!r}, which exists", "Give another one.")
        shutil.copytree(self.folder, to)
        return Run(Path(to))

    def __repr__(self) -> str:
        plan, verdict = self._material.plan, self.verdict
        where = f"{self.folder}{' (a temporary folder; keep it with .save)' if self.temporary else ''}"
        lines = [f"Run of {visible(plan.model.name, 120)} on {visible(plan.dataset.name, 120)} in {where}"]
        lines += verdict.lines()
        if verdict.unfinished:
            lines.append(f"  {verdict.unfinished} trials are still to be run.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The verdict card that a notebook shows; everything in it is escaped."""
        from locus.report.card import card

        return card(self._material, self.temporary)


def open_run(folder: str | Path) -> Run:
    """Open a run folder, finished or not; nothing in it is run, opened beyond it, or written.

    Args:
        folder: as `out` of an audit.

    Raises:
        UserError: if it is no run folder.
    """
    run = Run(Path(folder))
    _ = run.verdict  # said here, not where it is first used
    return run
