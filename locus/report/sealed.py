"""Read a receipt and see that it holds in itself: its bytes, its hash, its id, and both signatures.

A receipt has one text only, so what is compared is the file's bytes and never what a parser makes of them: no space, no capital
in a hash and no byte order mark can be changed unseen. Receipts of the first edition (locus-receipt/1) are read as they are.
"""

import base64
import hashlib
from pathlib import Path

import rfc8785

from locus.boundary import incoming
from locus.errors import UserError, VerificationError
from locus.records.base import JsonObject
from locus.records.receipt import FIRST_RECEIPT, RECEIPT_SCHEMAS, Receipt
from locus.report import keys

# Why a receipt is unsigned, from a closed set: a free text could be changed unseen, and might name a folder of the machine.
NOT_ASKED, NO_KEY = "not asked for", "no key that its owner alone can read could be had"
REASONS = (NOT_ASKED, NO_KEY)
ID_LENGTH = 26
MOST_BYTES = 8 << 20  # of a receipt

WHAT = "a receipt, or a run folder with its receipt.json"


def identity(digest: bytes) -> str:
    """The name of a SHA-256: its first 26 base32 characters, that is 130 bits."""
    return base64.b32encode(digest).decode()[:ID_LENGTH]


def views_message(identity: str, files: dict[str, str]) -> bytes:
    """What a signature of views is of: the receipt's id and the files' hashes."""
    return rfc8785.dumps({"receipt": identity, "files": files})


def text(content: JsonObject) -> str:
    """The file's text: one line a part, each as canonical JSON; there is no other text of the same"""
    lines = [f'"{name}":{rfc8785.dumps(content[name]).decode()}' for name in sorted(content)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(content: JsonObject) -> Receipt:
    """The parts of a parsed receipt, each of its kind.

    Raises:
        VerificationError: naming the first that is missing, added or of another kind.
    """
    schema = content.get("schema")
    if schema not in RECEIPT_SCHEMAS:
        known = " or ".join(RECEIPT_SCHEMAS)
        raise VerificationError(f"the receipt's schema is {str(schema)[:80]!r}, not {known}; a newer locus may know it")
    try:
        return Receipt.parse(content)
    except ValueError as error:
        raise VerificationError(f"the receipt is not written as locus writes it: {error}") from error


def check(raw: bytes, content: JsonObject) -> Receipt:
    """See that a receipt holds in itself.

    Args:
        raw: the file's bytes.
        content: what they say.

    Raises:
        VerificationError: with the first thing that does not hold.
    """
    receipt = parse(content)
    try:
        message = rfc8785.dumps(content["body"])
    except rfc8785.CanonicalizationError as error:
        raise VerificationError(f"the receipt's body is not canonical JSON: {error}") from error
    digest = hashlib.sha256(message)
    if receipt.sha256 != digest.hexdigest():
        raise VerificationError(f"the receipt's body hashes to {digest.hexdigest()}, not to {receipt.sha256}")
    if receipt.id != (named := identity(digest.digest())):
        raise VerificationError(f"the receipt's id is {receipt.id}, its hash says {named}")
    if receipt.signature is not None and not keys.holds(message, receipt.signature.to_json()):
        raise VerificationError("the receipt's signature is not of this receipt, or not by the key it names")
    views = receipt.views
    if views.signature is not None and not keys.holds(views_message(receipt.id, views.files), views.signature.to_json()):
        raise VerificationError("the signature of page and figures is not of them, or not by the key it names")
    if raw != text(content).encode():
        raise VerificationError("the receipt is not written as locus writes it: its bytes are others than its parts give")
    if (receipt.body.schema_ or FIRST_RECEIPT) != receipt.schema_:
        signed = f"whose body is that of a {receipt.body.schema_ or FIRST_RECEIPT}"
        raise VerificationError(f"the receipt calls itself a {receipt.schema_}, {signed}")
    reasons = [part.unsigned_because for part in (receipt, receipt.views) if part.signature is None]
    if receipt.schema_ != FIRST_RECEIPT and (other := set(reasons) - set(REASONS)):
        raise VerificationError(f"the receipt gives a reason for being unsigned that locus does not give: {min(other)[:80]!r}")
    return receipt


def read(path: Path, inside: Path | None = None) -> tuple[bytes, JsonObject]:
    """The bytes of a JSON object that somebody hands us, and what they say.

    Raises:
        UserError: if there is no such file.
        VerificationError: if it is no regular file of a bearable size, or no strict JSON object.
    """
    if not path.exists() and not path.is_symlink():
        raise UserError(WHAT, f"{str(path)!r}, which is not there", "Check the path.")
    try:
        raw = incoming.read_bytes(path, WHAT, MOST_BYTES, inside=inside)
        content = incoming.parse_json(raw)
    except UserError as error:
        raise VerificationError(f"{path.name} cannot be read: {error.received}") from error
    except ValueError as error:
        raise VerificationError(f"{path.name} is no JSON that has one meaning: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise VerificationError(f"{path.name} is no JSON object but a {type(content).__name__}")
    return raw, content
