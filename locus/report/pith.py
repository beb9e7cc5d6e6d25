"""Records of papers with a content number: check that a record is the one its number names.

Such a record (schema 1.0) is hashed as sorted, compact JSON in UTF-8; its number is the first 26 base32 characters of the
SHA-256. Nothing is fetched: the record and the number are given.
"""

import hashlib
import json

from locus.errors import UserError, VerificationError
from locus.records.base import JsonObject
from locus.report.sealed import identity

SCHEMA = "1.0"
PARTS = {"canonical_record", "schema_version"}
EXPECTED = ("pith_number", "canonical_sha256")


def number(record: JsonObject) -> tuple[str, str]:
    """SHA-256 (hex) and number of a canonical record."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest(), identity(digest.digest())


def verify(content: JsonObject, expected: str | None = None) -> tuple[str, str]:
    """Check a record, bare or inside an envelope as `canonical_record`.

    Args:
        content: the parsed file.
        expected: the number or the hash the record must have; an envelope's own are checked as well.

    Returns:
        Its number, and the answer in one line: a record is signed by nobody, and a number that stands beside it proves no more
        than that both were written down together.

    Raises:
        UserError: if nothing says which number is expected.
        VerificationError: if the record is not the one that is named, or its schema is not 1.0.
    """
    record = content.get("canonical_record", content)
    version = record.get("schema_version") if isinstance(record, dict) else None
    if not isinstance(record, dict) or version != SCHEMA:
        raise VerificationError(f"the record is of schema {str(version)[:40]!r}, not {SCHEMA}; a newer locus may know it")
    own = [content[name] for name in EXPECTED if name in content]
    wanted = [str(one) for one in (*own, expected) if one is not None]
    if not wanted:
        raise UserError("the number or hash that the record must have", "neither", "Name it with --expect.")
    digest, own_number = number(record)
    for one in wanted:
        if one not in (digest, own_number):
            raise VerificationError(f"the record hashes to {digest} (number {own_number}), not to {one[:80]}")
    return own_number, "verified, a record with the number that is expected" if expected else "intact, unsigned: a record alone"
