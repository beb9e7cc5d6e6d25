"""The forms in which a run leaves for others' tools, beside its edits: each a name, a writer, and a line of help."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from locus.errors import UserError


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        target: the writer, as `module:function` of a run folder and a new or empty one, which gives the names that it wrote.
        help: what it writes, in a few words.
        of_trial: whether it can be of one trial.
    """

    target: str
    help: str
    of_trial: bool = False

    def write(self, run: Path, to: Path, trial: str | None) -> list[str]:
        """Write it.

        Raises:
            UserError: as the writer; or if a trial is named, and it is of the whole run.
        """
        module, _, name = self.target.partition(":")
        writer: Callable[..., list[str]] = getattr(import_module(module), name)
        if trial is not None and not self.of_trial:
            raise UserError("no --trial for what is of the whole run", repr(trial), "Leave it out.")
        return writer(run, to, trial) if self.of_trial else writer(run, to)


FORMS = {
    "scores": Form("locus.report.export:export_scores", "per-item scores as Parquet and CSV, claims as JSON"),
    "inspect": Form("locus.report.inspect_log:write", "test questions as .eval logs of Inspect", of_trial=True),
    "attestation": Form("locus.report.attestation:write", "the receipt as an in-toto statement in a DSSE envelope"),
    "badge": Form("locus.report.badge:write", "the four answers of each claim as an SVG"),
    "card": Form("locus.report.model_card:write", "a block for a model card, with a model-index"),
    "cite": Form("locus.report.cite:write", "BibTeX, RIS, EndNote and CITATION.cff"),
}
