"""Check a receipt against itself, against its run folder, and the verdict against the stored scores."""

import hashlib
import json
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rfc8785

from locus import conclude, verdict
from locus.datasets.items import content_hash
from locus.errors import UserError, VerificationError
from locus.report import keys, pith, receipt
from locus.store import Store

TOLERANCE = 1e-9  # relative: another numpy may sum in another order
STORE = "trials.sqlite"
SCORES = "scores.parquet"
PARTS = {"schema", "body", "sha256", "id", "signature", "unsigned_because", "views"}
VIEW_PARTS = {"files", "signature", "unsigned_because"}


def verify(path: Path, expected: str | None = None) -> dict[str, Any]:
    """Verify a run folder, a receipt or a record, whichever it is; as `verify_run` and `verify_record`."""
    return verify_run(path, expected) if path.is_dir() else verify_record(path, expected)


def verify_record(path: Path, expected: str | None = None) -> dict[str, Any]:
    """Check a receipt alone (hash, id, signature) or a numbered record of a paper.

    Args:
        path: the JSON file.
        expected: the id, hash or signer's public key it must have.

    Returns:
        `kind`, `id`, and for receipts `signed_by` (public key, or None).

    Raises:
        UserError: if the file cannot be read, or its schema is not known.
        VerificationError: with the first thing that does not hold.
    """
    content = _read(path)
    if "canonical_record" in content or "schema_version" in content:
        return {"kind": "record", "id": pith.verify(content, expected)}
    if content.get("schema") != receipt.SCHEMA:
        raise UserError(f"a receipt of schema {receipt.SCHEMA}", f"{content.get('schema')!r} in {path}", "Use a newer locus.")
    try:
        message = rfc8785.dumps(content.get("body"))
    except rfc8785.CanonicalizationError as error:
        raise VerificationError(f"the receipt's body is not canonical JSON: {error}") from error
    digest = hashlib.sha256(message)
    if content.get("sha256") != digest.hexdigest():
        raise VerificationError(f"the receipt's body hashes to {digest.hexdigest()}, not to {content.get('sha256')}")
    if content.get("id") != receipt.identity(digest.digest()):
        raise VerificationError(f"the receipt's id is {content.get('id')}, its hash says {receipt.identity(digest.digest())}")
    signature = content.get("signature")
    if signature is not None and not keys.holds(message, signature):
        raise VerificationError("the receipt's signature is not of this receipt, or not by the key it names")
    signer = signature["public_key"] if signature else None
    _views(content)
    if (told := set(content) ^ PARTS) or path.read_text(encoding="utf-8") != receipt.text(content):
        raise VerificationError(f"the receipt is not written as locus writes it{': ' if told else ''}{', '.join(sorted(told))}")
    if expected is not None and expected not in (content["id"], content["sha256"], signer):
        raise VerificationError(f"the receipt is {content['id']} signed by {signer}, not {expected}")
    return {"kind": "receipt", "id": content["id"], "signed_by": signer}


def _views(content: dict[str, Any]) -> None:
    """Check the signature of the files that were drawn from the results, by whoever drew them."""
    drawn = content.get("views")
    if not isinstance(drawn, dict) or not isinstance(drawn.get("files"), dict) or set(drawn) != VIEW_PARTS:
        raise VerificationError("the receipt does not list what was drawn from the results (views)")
    signature = drawn["signature"]
    if signature is not None and not keys.holds(receipt.views_message(content["id"], drawn["files"]), signature):
        raise VerificationError("the signature of page and figures is not of them, or not by the key it names")
    for part in (content, drawn):
        if part.get("signature") is not None and part.get("unsigned_because") != "":
            raise VerificationError("the receipt is signed, and says why it is not")


def verify_run(folder: Path, expected: str | None = None) -> dict[str, Any]:
    """Check a run folder: receipt, files, page and figures, the store's tables, the plan's hash, and the verdict anew.

    Args:
        folder: the run folder; nothing in it is written.
        expected: as in `verify_record`.

    Raises:
        UserError: if there is no receipt, or of another schema.
        VerificationError: with the first difference.
    """
    if (folder / "plan.json").exists() and not (folder / "receipt.json").exists():
        raise UserError("a finished run, with its receipt.json", f"{folder}, not finished", "Finish it: its command goes on.")
    found = verify_record(folder / "receipt.json", expected)
    content = _read(folder / "receipt.json")["body"]
    if not (folder / "plan.json").exists() and not (folder / STORE).exists():
        return found | _excerpt(folder, content)
    _same(content["artefacts"], receipt.artefacts(folder), "the file")
    drawn = _read(folder / "receipt.json")["views"]["files"]
    _same(drawn, receipt.views(folder), "the file")
    plan = conclude.read_plan(folder)
    document = {name: value for name, value in plan.items() if name != "sha256"}
    if plan["rule"].get("version") != verdict.VERSION:
        judged = f"a run judged by {plan['rule'].get('version')}"
        raise UserError(f"a run judged by {verdict.VERSION}", judged, "Verify it with the version of locus named in its receipt.")
    fixed = {"sha256": content_hash(document), "rule_sha256": content_hash(plan["rule"])}
    _same({name: content["plan"][name] for name in fixed}, fixed, "the plan's")
    derived, standings = _derive(plan, folder, content["tables"])
    # After the tables, which say more; receipts of before it was stated have the tables alone.
    if stated := content.get("database"):
        _same(stated, {STORE: receipt.file_hash(folder / STORE)}, "the file")
    written = _read(folder / "verdict.json")
    difference = first_difference({name: written.get(name) for name in derived}, json.loads(json.dumps(derived)))
    if difference:
        raise VerificationError(f"the verdict does not follow from the scores: {difference}")
    if difference := first_difference(content["claims"], standings):
        raise VerificationError(f"the receipt's claims do not follow from the scores: {difference}")
    return {
        **found,
        "kind": "run",
        "artefacts": len(content["artefacts"]),
        "views": len(drawn),
        "tables": len(content["tables"]),
        "claims": standings,
    }


def _excerpt(folder: Path, body: dict[str, Any]) -> dict[str, Any]:
    """Check what a folder holds of a run without its plan and its store, as a committed study is: every file it has of those
    that the receipt names, and the exported scores, which are rows of the store's table.
    """
    stated, there = body["artefacts"], receipt.artefacts(folder)
    _same({name: stated[name] for name in there if name in stated}, there, "the file")
    checked = sorted(there)
    if (folder / SCORES).exists():
        _same({"scores": body["tables"]["scores"]}, {"scores": receipt.exported_hash(folder / SCORES)}, f"{SCORES}, table")
        checked.append(SCORES)
    return {"kind": "excerpt", "checked": checked, "absent": sorted(set(stated) - set(there))}


@contextmanager
def copied_store(folder: Path) -> Iterator[Store]:
    """A copy of a run's store: opening a database writes beside it, and who verifies writes nothing.

    Raises:
        VerificationError: if there is none.
    """
    if not (folder / STORE).exists():
        raise VerificationError(f"the file {STORE} is missing")
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal"):
            if (folder / f"{STORE}{suffix}").exists():
                shutil.copy(folder / f"{STORE}{suffix}", Path(place) / f"{STORE}{suffix}")
        store = Store(Path(place) / STORE)
        try:
            yield store
        finally:
            store.close()


def _derive(plan: dict[str, Any], folder: Path, tables: dict[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The verdict from the store's scores, once its tables are what the receipt says."""
    try:
        with copied_store(folder) as store:
            broken = str(store.db.execute("PRAGMA integrity_check").fetchone()[0])
            if broken != "ok":
                raise VerificationError(f"{STORE} is damaged: {broken.splitlines()[0]}")
            _same(tables, receipt.table_hashes(store.db), f"{STORE}, table")
            derived = conclude.derive(conclude.Record(plan, store))
    except (sqlite3.DatabaseError, UserError, UnicodeDecodeError) as error:
        raise VerificationError(f"{STORE} is damaged: {error}") from error
    return derived, [receipt.standing(claim) for claim in derived["claims"]]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("a run folder with a receipt.json, or a receipt", f"{path} ({error})", "Check the path.") from error
    if not isinstance(content, dict):
        raise UserError("a receipt: a JSON object", f"{type(content).__name__} in {path}", "Check the path.")
    return content


def _same(stated: dict[str, str], found: dict[str, str], what: str) -> None:
    """Raise at the first name, in order, whose hash is not the stated one."""
    for name in sorted(stated.keys() | found.keys()):
        if name not in found:
            raise VerificationError(f"{what} {name} is missing")
        if name not in stated:
            raise VerificationError(f"{what} {name} is not in the receipt")
        if stated[name] != found[name]:
            raise VerificationError(f"{what} {name} has SHA-256 {found[name]}, the receipt says {stated[name]}")


def first_difference(stated: Any, found: Any, where: str = "") -> str:
    """Where two JSON values first differ, in words; empty if they agree (numbers to 1e-9, relative)."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for name in [*stated, *(name for name in found if name not in stated)]:
            if (name in stated) != (name in found):
                return f"{where}.{name} is only in one of them".lstrip(".")
            if difference := first_difference(stated[name], found[name], f"{where}.{name}".lstrip(".")):
                return difference
        return ""
    if isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        parts = (first_difference(old, new, f"{where}[{at}]") for at, (old, new) in enumerate(zip(stated, found, strict=True)))
        return next((part for part in parts if part), "")
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (stated, found))
    if numbers and math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return ""
    return "" if stated == found and type(stated) is type(found) else f"{where} is stated as {stated!r}, found {found!r}"
