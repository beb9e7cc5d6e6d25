"""A finished run's verdict, receipt and citations, as those need them who write a run in another form."""

from pathlib import Path

from locus.boundary import incoming
from locus.errors import UserError, VerificationError
from locus.records.verdict import Verdict


def verdict_of(run: Path) -> Verdict:
    """The verdict in a run folder.

    Raises:
        UserError: if there is none yet.
        VerificationError: if it is not as locus writes it.
    """
    path = run / "verdict.json"
    if not path.exists():
        raise UserError("a finished run, with its verdict.json", str(run), "Finish it: its command goes on.")
    try:
        return Verdict.parse(incoming.read_json(path, "a run's verdict.json", inside=run))
    except ValueError as error:
        raise VerificationError(f"verdict.json is not as locus writes it: {str(error)[:200]}") from error
