"""A run's receipt for the tools of supply chains: an in-toto statement in a DSSE envelope, signed by whoever exports it.

The subjects are the run's files with their SHA-256; the predicate is the receipt, whole, with the signature that it has. A run
that does not hold is not signed for.

Source: in-toto Attestation Framework v1, https://github.com/in-toto/attestation/tree/main/spec/v1; DSSE v1,
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.
"""

import base64
import json
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from locus import atomic
from locus.boundary import outputs
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.report import keys, sealed
from locus.report.verify import verify

STATEMENT, PAYLOAD = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
PREDICATE = "urn:locus-audit:receipt:2"  # names the schema, docs/schemas/receipt.json
FILES = ("receipt.intoto.json", "signer.pem")


def write(run: Path, to: Path) -> list[str]:
    """Write the envelope of a finished run, and the key that checks it.

    Args:
        run: the run folder.
        to: a new or empty folder.

    Returns:
        Names of the files written.

    Raises:
        VerificationError: if the run does not hold.
        UserError: if it is not finished, no key can be had, or the folder to write to is not empty.
    """
    if not run.is_dir():
        raise UserError("a run folder", str(run), "Check the path.")
    if (kind := verify(run).kind) != "run":
        raise UserError("a whole run folder", f"{kind} in {run}", "Give the run's own folder.")
    content = sealed.read(run / "receipt.json", run)[1]
    envelope = signed(rfc8785.dumps(statement(content)))
    outputs.empty_folder(to)
    atomic.replace(to / FILES[0], json.dumps(envelope, indent=2) + "\n")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(envelope["signatures"][0]["keyid"]))
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    atomic.replace(to / FILES[1], pem)
    return list(FILES)


def statement(receipt: JsonObject) -> dict[str, Any]:
    """The in-toto statement of a receipt."""
    body = sealed.parse(receipt).body
    files = dict(body.artefacts) | {str(name): digest for name, digest in body.database.items()}
    subject: list[dict[str, Any]] = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": receipt}


def encoded(kind: str, payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of DSSE, in which no byte of the type can pass for one of the payload."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def signed(payload: bytes) -> dict[str, Any]:
    """An envelope by the user's key, whose id is the public key as `locus verify` prints it.

    Raises:
        UserError: if no key can be had.
    """
    try:
        signature = keys.sign(encoded(PAYLOAD, payload))
    except OSError as error:
        raise UserError("a signing key that can be made", str(error)[:160], "Set LOCUS_CONFIG to a folder of yours.") from error
    sig = base64.b64encode(bytes.fromhex(signature["signature"])).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"keyid": signature["public_key"], "sig": sig}],
    }
