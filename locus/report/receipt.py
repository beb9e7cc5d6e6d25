"""receipt.json: what was run, on what, by which rule, and what came out, as canonical JSON that is hashed and signed.

The body is serialised by RFC 8785 and stands on a line of its own, so anyone who has the file can recompute its SHA-256 with
a shell; the receipt's id is the first 26 characters of that hash in base32. Scores are hashed twice: as rows of the store's
tables, which say what changed, and as the bytes of the file, which a shell can check.

What is drawn from results (page, figures, citations) names the id, and so cannot be part of what the id is a hash of: these
files are listed beside the body, as views, with a signature of their own. Drawing them anew leaves body and id as they were.
"""

import hashlib
import json
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import rfc8785
import torch
from pydantic import JsonValue

import locus
from locus import atomic
from locus.boundary import incoming
from locus.boundary.notices import notice
from locus.errors import UserError, VerificationError
from locus.plan import reading
from locus.records import labels
from locus.records.base import JsonObject
from locus.records.findings import ClaimVerdict
from locus.records.plan import PlanRecord
from locus.records.receipt import RECEIPT_SCHEMA, Body, ClaimState, Code, DatasetState, ModelState, PlanState, Receipt
from locus.records.store import Store
from locus.records.verdict import Verdict
from locus.report import keys, sealed
from locus.report.sealed import NO_KEY, NOT_ASKED, identity, text, views_message

MOST_SCORES = 1 << 30  # bytes of the scores, and rows
REWRITE = "The audit's own command, given again, writes a new one."


class Unsigned(UserWarning):
    """A receipt could not be signed."""


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a regular file's bytes.

    Raises:
        UserError: if it is none: a pipe never ends, and a link is another file.
    """
    if not incoming.regular(path):
        raise UserError("a regular file", f"{str(path)!r}, which is none", "Remove it from the run folder.")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artefacts(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a run folder that the receipt vouches for, by its path in the folder."""
    paths = [out / "plan.json", out / "verdict.json", out / labels.FILE, *sorted((out / "edits").glob("*.safetensors"))]
    return {path.relative_to(out).as_posix(): file_hash(path) for path in paths if path.exists() or path.is_symlink()}


def views(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a run folder that was drawn from its results."""
    paths = [out / "report.html", *sorted(out.glob("cite.*")), *sorted((out / "figures").glob("[!.]*"))]
    return {path.relative_to(out).as_posix(): file_hash(path) for path in paths if path.is_file()}


def table_hashes(db: sqlite3.Connection) -> dict[str, str]:
    """SHA-256 of every table: its columns, then its rows in order of all columns, one compact JSON array a line.

    Every one, whatever its name: a store with a table that locus does not make is refused where it is opened.
    """
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    hashes = {}
    for name in sorted(names):
        columns = [str(row[1]) for row in db.execute(f'PRAGMA table_info("{name}")')]
        order = ", ".join(str(number + 1) for number in range(len(columns)))
        digest = hashlib.sha256(_line(columns))
        for row in db.execute(f'SELECT * FROM "{name}" ORDER BY {order}'):
            digest.update(_line(row))
        hashes[name] = digest.hexdigest()
    return hashes


def exported_hash(path: Path) -> str:
    """SHA-256 of the store's table of scores, from the scores that `locus export --as scores` wrote."""
    import pyarrow.parquet

    names = ["trial", "split", "measure", "item", "value", "reason"]
    content = incoming.read_bytes(path, "a run's exported scores", MOST_SCORES)
    stored = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
    held = sum(stored.metadata.row_group(group).total_byte_size for group in range(stored.metadata.num_row_groups))
    if max(held, stored.metadata.num_rows) > MOST_SCORES:
        raise UserError("exported scores that fit into memory", f"{str(path)!r}, far larger than it looks", "Export them again.")
    columns = stored.read(columns=names).to_pydict()
    digest = hashlib.sha256(_line(names))
    for row in sorted(zip(*(columns[name] for name in names), strict=True), key=lambda row: row[:4]):
        digest.update(_line(row))
    return digest.hexdigest()


def _line(row: Any) -> bytes:
    return (json.dumps(list(row), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n").encode()


def code() -> Code:
    """The version of locus and, in a checkout, its commit and whether the package differs from it."""
    folder = Path(locus.__file__).parent
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return Code(version=locus.__version__, commit=None, dirty=None)  # installed, perhaps inside somebody else's checkout
    changes = _git(folder, "status", "--porcelain", "--", ".")
    return Code(
        version=locus.__version__, commit=_git(folder, "rev-parse", "HEAD"), dirty=None if changes is None else bool(changes)
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_words(device: str) -> str:
    """A device with the name of the hardware behind it."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return f"{device} ({name}), {torch.get_num_threads()} threads"


def body(out: Path, store: Store, device: str) -> Body:
    """What the receipt states, without hash and signature; `device` is as words."""
    plan = reading.read_plan(out)
    verdict = Verdict.parse(incoming.read_json(out / "verdict.json", "a run's verdict.json", inside=out))
    return Body(
        schema_=RECEIPT_SCHEMA,
        **of_plan(plan),
        plan=PlanState(sha256=plan.sha256, rule_sha256=plan.rule_sha256, fixed=store.meta("plan_fixed")),
        code=code(),
        versions=verdict.versions,
        device=device,
        seeds=verdict.seeds,
        unfinished=verdict.unfinished,
        artefacts=artefacts(out),
        tables=table_hashes(store.db),
        # While somebody reads, not all is in the one file, and its bytes are yet to change; the rows are not.
        database={"trials.sqlite": file_hash(store.path)} if store.settle() else {},
        claims=tuple(standing(claim) for claim in verdict.claims),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class OfPlan(TypedDict):
    """What the receipt states of a plan."""

    config: JsonObject
    context: JsonObject
    model: ModelState
    dataset: DatasetState


def of_plan(plan: PlanRecord) -> OfPlan:
    """What the receipt states of a plan: settings, what the trials are run on, model and data."""
    name, sha256 = portable(plan.model.name), str(plan.context["model"])
    return {
        "config": {setting: portable(value) for setting, value in plan.config.items()},
        "context": plan.context,
        "model": ModelState(name=str(name), quantised=plan.model.quantised, sha256=sha256),
        "dataset": DatasetState(name=plan.dataset.name, licence=plan.dataset.licence, sha256=plan.dataset.sha256),
    }


def portable(value: JsonValue) -> JsonValue:
    """Settings without the folders of the machine they were made on: an absolute path becomes its last name.

    A receipt is for strangers; hashes say which file it was.
    """
    if isinstance(value, dict):
        return {name: portable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [portable(one) for one in value]
    if isinstance(value, str):
        before, mark, path = value.rpartition(":")
        local = Path(path).is_absolute() and not path.startswith("//")  # what follows "http:" is no path
        return before + mark + Path(path).name if local else value
    return value


def standing(claim: ClaimVerdict) -> ClaimState:
    """A verdict's claim, down to what it is and how it stands."""
    return ClaimState(
        name=_named(claim.name),
        origin=_named(claim.origin),
        location=tuple(map(_named, claim.location)),
        read=_named(claim.read),
        sentence=_named(claim.sentence),
        works=claim.works.standing,
        special=claim.special.standing,
        unique=claim.unique.standing,
        necessary=claim.necessary.standing,
    )


def _named(text: str) -> str:
    return str(portable(text))


def seal(content: JsonObject, sign: bool = True) -> JsonObject:
    """Hash a body and sign it; where no key can be had the receipt says why it is unsigned.

    Args:
        content: the body, as JSON.
        sign: whether the user's key signs it.

    Returns:
        A receipt without its views.
    """
    message = rfc8785.dumps(content)
    digest = hashlib.sha256(message)
    named = {"schema": RECEIPT_SCHEMA, "body": content, "sha256": digest.hexdigest(), "id": identity(digest.digest())}
    return {**named, **_signed(message, sign)}


def _signed(message: bytes, sign: bool) -> JsonObject:
    """A signature, or null and the reason why there is none."""
    if not sign:
        return {"signature": None, "unsigned_because": NOT_ASKED}
    try:
        return {"signature": {**keys.sign(message)}, "unsigned_because": ""}
    except (OSError, UserError) as error:
        notice(f"The receipt is unsigned: {error}", Unsigned, once=False)
        return {"signature": None, "unsigned_because": NO_KEY}


def _save(out: Path, content: JsonObject) -> Receipt:
    atomic.replace(out / "receipt.json", text(content))
    return sealed.parse(content)


def sealed_in(out: Path) -> Receipt | None:
    """The receipt of a run folder, whole but unverified; None where there is none.

    Raises:
        UserError: if it is not whole, or of another schema.
    """
    if not (out / "receipt.json").exists():
        return None
    try:
        return sealed.parse(sealed.read(out / "receipt.json", out)[1])
    except VerificationError as error:
        raise UserError("a receipt that is whole", f"{str(out / 'receipt.json')!r} ({error})", REWRITE) from error


def seal_views(out: Path, sign: bool = True) -> None:
    """List what was drawn from a run in its receipt; a run without a receipt is not finished, and nothing is done."""
    whole = sealed_in(out)
    if whole is not None:
        _with_views(out, whole.to_json(), views(out), sign)


def _with_views(out: Path, content: JsonObject, files: dict[str, str], sign: bool) -> Receipt:
    signed = _signed(views_message(str(content["id"]), files), sign)
    return _save(out, {**content, "views": {"files": {**files}, **signed}})


def write(out: Path, store: Store, device: str | None = "cpu", sign: bool = True) -> Receipt:
    """Write the receipt of a run folder whole or not at all.

    Args:
        out: the run folder, with plan.json and verdict.json.
        store: its open database.
        device: what the model was run on; None where nothing was run, and the receipt that is there says it.
        sign: whether the user's key signs it.
    """
    old = sealed_in(out) if device is None else None
    words = old.body.device if old is not None else device_words(device or "cpu")
    content = seal(body(out, store, words).to_json(), sign)
    # With an empty list, until they are listed: a receipt without one is none.
    _with_views(out, content, {}, sign)
    return _with_views(out, content, views(out), sign)
