"""What lies finished in a folder, as those need it who write it in another form: a run's verdict, and records of several runs."""

import json
from pathlib import Path
from typing import TypeVar

from locus import atomic, errors
from locus.boundary import incoming
from locus.errors import UserError, VerificationError
from locus.records.base import JsonObject, Part
from locus.records.verdict import Verdict

P = TypeVar("P", bound=Part)


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


def keep(record: Part, path: Path) -> None:
    """Write a record whole or not at all."""
    atomic.replace(path, json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")


def kept(kind: type[P], path: Path, schema: str, what: str) -> P:
    """A record as `keep` wrote it, or as a stranger did.

    Args:
        kind: of the record.
        path: of its file.
        schema: which it is to state.
        what: it is expected to be, for the error.

    Raises:
        UserError: if there is none that is whole and of this schema.
    """
    with errors.whole(what, path.parent):
        content: JsonObject = incoming.read_json(path, what, inside=path.parent)
        if content.get("schema") != schema:
            raise UserError(f"a {path.name} of schema {schema}", f"{str(content.get('schema'))[:80]!r}", "Use a newer locus.")
        return kind.parse(content)
