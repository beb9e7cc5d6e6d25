"""Check a receipt against itself, against its run folder, and the verdict against the stored scores.

Each answer has its own first line: *verified, signed by NAME* only where a key that the user trusts vouches for everything that
lies in the folder; *intact* where all holds but nobody known vouches for it, or part of it is not there. Everything that is wrong
with a folder is a `VerificationError`, whatever it is that is wrong.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import pyarrow

from locus.boundary import incoming
from locus.errors import NONSENSE, UserError, VerificationError
from locus.plan import reading
from locus.records.receipt import FIRST_RECEIPT, Body, ClaimState, Receipt
from locus.records.verdict import Verdict
from locus.report import pith, sealed, trusted
from locus.report.derived import STORE, check_plan, check_results, first_difference, same
from locus.report.receipt import exported_hash, file_hash, standing

SCORES = "scores.parquet"
MOST_FILES, MOST_BYTES = 200_000, 4 << 30  # of one folder, and of one of its files
MOST_DEPTH = 16  # of folders in it
LEFT_BY_READERS = (f"{STORE}-wal", f"{STORE}-shm")  # beside a database that somebody looks into


class Repeated(TypedDict):
    """What was found by repeating trials.

    Attributes:
        seed: of the draw.
        drawn: ids of the trials.
        repeated: number of trials compared.
        largest: measure -> largest absolute difference.
        judge: the name of the judge that was left out; empty where none was.
        unrepeated: measures that only it could score.
    """

    seed: int
    drawn: list[str]
    repeated: int
    largest: dict[str, float]
    judge: str
    unrepeated: list[str]


@dataclass(frozen=True)
class Verification:
    """What held.

    Attributes:
        kind: a run folder, an excerpt of one (no plan and no store), a receipt alone, or a record of a paper.
        id: of the receipt, or the record's number.
        line: the answer in one line.
        signed_by: the public key that signed the receipt; None where none did.
        held: what was checked, and found right, in words.
        absent: files that the receipt names and that are not here.
        unchecked: what could not be checked, and why.
        claims: the claims' standings, derived anew; empty where that was not possible.
        repeated: what was found by repeating trials; None where that was not asked for.
    """

    kind: Literal["run", "excerpt", "receipt", "record"]
    id: str
    line: str
    signed_by: str | None = None
    held: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    claims: tuple[ClaimState, ...] = ()
    repeated: Repeated | None = None


def verify(path: Path, expected: str | None = None) -> Verification:
    """Verify a run folder, a receipt or a record, whichever it is.

    Args:
        path: the folder or the JSON file; nothing in it is written, opened beyond it, or run.
        expected: the name of a trusted key or a public key that must have signed everything; or the receipt's id or hash.

    Raises:
        UserError: if there is nothing at that path, the run is not finished, or nobody is trusted under that name.
        VerificationError: with the first thing that does not hold.
    """
    with _whatever_is_wrong(path):
        return verify_run(path, expected) if path.is_dir() else verify_record(path, expected)


@contextmanager
def _whatever_is_wrong(path: Path) -> Iterator[None]:
    """Take what a hostile file makes our own code raise for what it is: something wrong with the file."""
    try:
        yield
    except NONSENSE as error:
        raise VerificationError(f"{path.name} is not as locus writes it ({type(error).__name__}: {str(error)[:160]})") from error


def verify_record(path: Path, expected: str | None = None) -> Verification:
    """Check a receipt alone (bytes, hash, id, signatures) or a numbered record of a paper; which it is, its schema says.

    Raises:
        UserError, VerificationError: as `verify`.
    """
    raw, content = sealed.read(path)
    if content.keys() & pith.PARTS:
        if content.keys() & {"schema", "body", "signature", "views"}:
            raise VerificationError("the file is a record and a receipt in one, and is taken for neither")
        return Verification("record", *pith.verify(content, expected))
    receipt = sealed.check(raw, content)
    _expect(receipt, expected, True)
    held = (("receipt", "its bytes, hash, id and signatures hold in themselves"),)
    unchecked = (*_earlier(receipt), "The run's folder is not here: neither files nor verdict were checked.")
    return Verification("receipt", receipt.id, _line(receipt, False), receipt.signed_by, held, unchecked=unchecked)


def verify_run(folder: Path, expected: str | None = None) -> Verification:
    """Check a run folder: receipt, every file, the plan and what follows from it, and the verdict anew.

    Raises:
        UserError, VerificationError: as `verify`.
    """
    unfinished = (folder / "plan.json").exists() and not (folder / "receipt.json").exists()
    if unfinished and not (folder / "receipt.json").is_symlink():
        raise UserError("a finished run, with its receipt.json", f"{folder}, not finished", "Finish it: its command goes on.")
    raw, content = sealed.read(folder / "receipt.json", folder)
    receipt = sealed.check(raw, content)
    there = _inventory(folder)
    whole = "plan.json" in there or STORE in there
    absent, extra = _files(folder, receipt, there, whole)
    # Where none is listed, somebody may have emptied the list.
    _expect(receipt, expected, whole or not receipt.views.files or any(name in there for name in receipt.views.files))
    if whole:
        claims, chosen_elsewhere = _results(folder, receipt.body)
        held, unchecked = _held_of_run(receipt, absent, claims, chosen_elsewhere), _earlier(receipt)
    else:
        claims = []
        held, unchecked, extra = _held_of_excerpt(folder, receipt, there, extra)
        unchecked = (*_earlier(receipt), *unchecked)
        if expected is not None and extra:
            raise VerificationError(f"nothing covers {_listed(extra)}: nobody vouches for what it says")
    kind: Literal["run", "excerpt"] = "run" if whole else "excerpt"
    line = _line(receipt, bool(absent) or not whole, () if whole else extra)
    return Verification(kind, receipt.id, line, receipt.signed_by, held, absent, unchecked, tuple(claims))


def _inventory(folder: Path) -> set[str]:
    """Every file of a folder, by its path in it.

    Raises:
        VerificationError: at what is no regular file or folder, or where there are too many.
    """
    names: set[str] = set()
    left = [(folder, 0)]
    while left:
        place, depth = left.pop()
        for entry in _entries(place):
            name = Path(entry.path).relative_to(folder).as_posix()
            if entry.is_dir(follow_symlinks=False):
                left.append((Path(entry.path), depth + 1))
            elif not entry.is_file(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_size > MOST_BYTES:
                raise VerificationError(f"the folder holds {name}, which is no regular file of at most {MOST_BYTES:,} bytes")
            else:
                names.add(name)
            if len(names) + len(left) > MOST_FILES:
                raise VerificationError(f"the folder holds more than {MOST_FILES:,} files")
            if depth >= MOST_DEPTH:
                raise VerificationError(f"the folder holds folders more than {MOST_DEPTH} deep")
    return names


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise VerificationError(f"{folder.name[:80]!r} cannot be looked into ({error.strerror})") from error


def _files(folder: Path, receipt: Receipt, there: set[str], whole: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check every file that is there by its hash.

    Returns:
        Files that the receipt names and that are not there, and files that are there and that it does not name.

    Raises:
        VerificationError: at the first that differs; of a whole run also where anything but edits is missing, or added.
    """
    body = receipt.body
    stated = dict(body.artefacts | receipt.views.files | {str(name): one for name, one in body.database.items()})
    if not body.database or all(name not in there or (folder / name).stat().st_size == 0 for name in LEFT_BY_READERS[:1]):
        there = there - set(LEFT_BY_READERS)
    named = {"receipt.json", *stated, *([] if body.database else [STORE])}
    absent, extra = sorted(set(stated) - there), sorted(there - named)
    if whole and (missing := [name for name in absent if not name.startswith("edits/")]):
        raise VerificationError(f"the file {missing[0]} is missing")
    if whole and extra:
        more = f", and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise VerificationError(f"the file {extra[0]} is not in the receipt{more}: nobody vouches for what it says")
    here = {name: stated[name] for name in sorted(stated) if name in there}
    # Rows say more than bytes do, so the database is held against its hash after its rows.
    for name in [*(name for name in here if name != STORE), *(name for name in here if name == STORE and not whole)]:
        same({name: here[name]}, {name: file_hash(folder / name)}, "the file")
    return tuple(absent), tuple(extra)


def _results(folder: Path, body: Body) -> tuple[list[ClaimState], tuple[str, ...]]:
    """Plan, rows and verdict of a run folder, held against one another: the claims' standings, and those chosen elsewhere."""
    try:
        plan = reading.read_plan(folder)
        chosen_elsewhere = check_plan(plan, body)
        claims = check_results(plan, folder, body)
        if body.database:
            same({STORE: body.database["trials.sqlite"]}, {STORE: file_hash(folder / STORE)}, "the file")
    except reading.NotKnownHereError:
        raise  # nothing is wrong with the folder
    except UserError as error:
        raise VerificationError(f"the folder is not as locus writes it: expected {error.expected}; {error.received}") from error
    return claims, chosen_elsewhere


def _held_of_run(
    receipt: Receipt, absent: tuple[str, ...], claims: list[ClaimState], chosen_elsewhere: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    body = receipt.body
    here = len(body.artefacts) - len(absent)
    stated = [f"code {body.code.version}", body.device, f"written {body.written}"]
    if chosen_elsewhere:
        stated.append(f"the sites of the claim(s) {_listed(chosen_elsewhere)}, which came from a file or from patching")
    held = [
        ("files", f"{here} of the run and {len(receipt.views.files)} drawn from it have the hashes in the receipt"),
        ("scores", f"{len(body.tables)} tables of the database have the hashes in the receipt"),
        ("plan", "rule and trials planned anew from its settings and claims: the same; the receipt says of it what it says"),
        ("verdict", f"derived anew from the stored scores: the same, for {len(claims)} claim(s)"),
        ("stated", f"on the signer's word alone: {', '.join(stated)}"),
    ]
    if absent:
        held.insert(1, ("not here", f"{len(absent)} edits that the receipt names: {_listed(absent)}"))
    return tuple(held)


def _held_of_excerpt(
    folder: Path, receipt: Receipt, there: set[str], extra: tuple[str, ...]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...], tuple[str, ...]]:
    """Check what a folder holds of a run without its plan and its store, as a committed study is: besides every file that the
    receipt names, the exported scores, which are rows of the store's table, and what the verdict says of itself.

    Returns:
        What held, what could not be checked, and the files that nothing covers.
    """
    body = receipt.body
    named = {**body.artefacts, **receipt.views.files}
    here = sorted(name for name in named if name in there)
    if "verdict.json" in there:
        written = incoming.read_json(folder / "verdict.json", "the run's verdict.json", inside=folder)
        states = [standing(claim).to_json() for claim in Verdict.parse(written).claims]
        if difference := first_difference([claim.to_json() for claim in body.claims], states):
            raise VerificationError(f"the receipt's claims are not the verdict's: {difference}")
    if SCORES in extra:
        try:
            same({"scores": body.tables["scores"]}, {"scores": exported_hash(folder / SCORES)}, f"{SCORES}, table")
        except pyarrow.ArrowException as error:
            raise VerificationError(f"{SCORES} is damaged: {str(error)[:160]}") from error
        here.append(SCORES)
        extra = tuple(name for name in extra if name != SCORES)
    missing = len(set(named) - there)
    held = [("files", f"{', '.join(here) or 'none'}: as the run left them, by the hashes in the receipt")]
    if extra:
        held.append(("no part of it", f"{_listed(extra)}: nobody vouches for what they say"))
    return tuple(held), (f"{missing} files of the run and its database are not here: the verdict was not derived anew.",), extra


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _earlier(receipt: Receipt) -> tuple[str, ...]:
    """What a receipt of the first edition does not state, and which checks could thus not be made."""
    bare = "" if receipt.body.database else "the database's bytes are not stated, so its rows were checked and free space was not"
    if receipt.schema_ == FIRST_RECEIPT:
        threads = "its plan does not state the number of threads"
        return (f"An earlier edition's receipt: {'; '.join(filter(None, (bare, threads)))}.",)
    return (f"Somebody was reading when the receipt was written: {bare}.",) if bare else ()


def _expect(receipt: Receipt, expected: str | None, drawn: bool) -> None:
    """Hold a receipt to what is expected of it: who signed it, with page and figures, or which one it is.

    Raises:
        UserError: if nobody is trusted under that name.
        VerificationError: if it is another, or signed by another or by nobody.
    """
    if expected is None:
        return
    signer = receipt.signed_by
    if trusted.IDENTITY.fullmatch(expected) or expected == receipt.sha256:
        if expected not in (receipt.id, receipt.sha256):
            raise VerificationError(f"the receipt is {receipt.id}, not {expected}")
    else:
        wanted = expected if trusted.KEY.fullmatch(expected) else trusted.key_of(expected)
        if signer != wanted:
            by = f"signed by {signer}" if signer else "unsigned"
            raise VerificationError(f"the receipt is {receipt.id}, {by}; not signed by {expected}")
    if drawn and (signer is None or receipt.views.signed_by != signer):
        by = f"signed by {receipt.views.signed_by}" if receipt.views.signed_by else "unsigned"
        raise VerificationError(f"page and figures are {by}, the receipt by {signer or 'nobody'}: they may say anything")


def _line(receipt: Receipt, incomplete: bool, uncovered: tuple[str, ...] = ()) -> str:
    """The answer in one line."""
    name = trusted.name_of(receipt.signed_by)
    known = f"signed by {name}" if name else f"signed by an unknown key {receipt.signed_by}" if receipt.signed_by else "unsigned"
    views = ""
    if receipt.views.signed_by != receipt.signed_by:  # also where none is listed: the list may have been emptied
        other = trusted.name_of(receipt.views.signed_by)
        by = f"signed by {other or f'an unknown key {receipt.views.signed_by}'}" if receipt.views.signed_by else "unsigned"
        views = f"; page and figures {by}"
    standing = "intact, incomplete" if incomplete else "verified" if name and not views else "intact"
    strange = f"; nobody vouches for {_listed(uncovered, 1)}" if uncovered else ""
    return f"{standing}, {known}{views}{strange}"
