"""Read a receipt and see that it holds in itself: its bytes, its hash, its id, and both signatures.

A receipt has one text only, so what is compared is the file's bytes and never what a parser makes of them: no space, no capital
in a hash and no byte order mark can be changed unseen. Receipts of the first edition (locus-receipt/1) are read as they are.
"""

import base64
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from locus.boundary import incoming
from locus.errors import UserError, VerificationError
from locus.report import keys

FIRST_SCHEMA, SCHEMA = "locus-receipt/1", "locus-receipt/2"
SCHEMAS = (FIRST_SCHEMA, SCHEMA)
# Why a receipt is unsigned, from a closed set: a free text could be changed unseen, and might name a folder of the machine.
NOT_ASKED, NO_KEY = "not asked for", "no key that its owner alone can read could be had"
REASONS = (NOT_ASKED, NO_KEY)
ID_LENGTH = 26
MOST_BYTES = 8 << 20  # of a receipt
MOST_FILES, MOST_NAMES = 20_000, 1000  # that it names; entries of any other table
TABLES = ("artefacts", "files", "versions", "seeds", "tables", "database")

Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Short = Annotated[str, Field(max_length=4096)]
WHAT = "a receipt, or a run folder with its receipt.json"
# What a receipt holds of a folder: nothing above it, nothing beside it, nothing hidden.
FILES = (
    r"(plan|verdict)\.json",
    r"report\.html",
    r"cite\.[a-z]{1,8}",
    r"edits/[0-9a-f]{1,64}\.safetensors",
    r"figures/[^./\x00][^/\x00]{0,250}",
)
NAME = f"^({'|'.join(FILES)})$"
FileName = Annotated[str, Field(pattern=NAME)]


def identity(digest: bytes) -> str:
    """The name of a SHA-256: its first 26 base32 characters, that is 130 bits."""
    return base64.b32encode(digest).decode()[:ID_LENGTH]


def views_message(identity: str, files: dict[str, str]) -> bytes:
    """What a signature of views is of: the receipt's id and the files' hashes."""
    return rfc8785.dumps({"receipt": identity, "files": files})


def text(sealed: dict[str, Any]) -> str:
    """The file's text: one line a part, each as canonical JSON; there is no other text of the same"""
    lines = [f'"{name}":{rfc8785.dumps(sealed[name]).decode()}' for name in sorted(sealed)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _bearable(cls, given: Any) -> Any:
        """Count before looking: every wrong entry would be an error of its own."""
        for name, table in given.items() if isinstance(given, dict) else ():
            many = MOST_FILES if name in ("artefacts", "files") else MOST_NAMES
            if name in TABLES and isinstance(table, dict) and len(table) > many:
                raise ValueError(f"{name} of more than {many:,} entries")
        if isinstance(given, dict) and len(given) > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES:,} parts")
        return given


class Signature(_Part):
    """A signature with the public key that checks it."""

    algorithm: Literal["ed25519"]
    public_key: Hash
    signature: str = Field(pattern="^[0-9a-f]{128}$")


class _Signed(_Part):
    signature: Signature | None
    unsigned_because: Short

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Signed":
        if (self.signature is None) != bool(self.unsigned_because):
            raise ValueError("signed, and says why it is not; or unsigned without a reason")
        return self


class Views(_Signed):
    """What was drawn from the results, by whoever drew it."""

    files: dict[FileName, Hash]


class _Plan(_Part):
    sha256: Hash
    rule_sha256: Hash
    fixed: Short | None


class _Model(_Part):
    name: Short
    quantised: bool
    sha256: Hash


class _Dataset(_Part):
    name: Short
    licence: Short
    sha256: Hash


class _Code(_Part):
    version: Short
    commit: Short | None
    dirty: bool | None


class Body(_Part):
    """What the receipt states of a run; receipts of the first edition do not name their schema here, where it is signed."""

    schema_: Literal["locus-receipt/2"] | None = Field(None, alias="schema")
    config: dict[str, Any]
    context: dict[str, Any]
    model: _Model
    dataset: _Dataset
    plan: _Plan
    code: _Code
    versions: dict[str, Short]
    device: Short
    seeds: dict[str, int]
    unfinished: int
    artefacts: dict[FileName, Hash]
    tables: dict[str, Hash]
    # Receipts of before it was stated have the tables alone.
    database: dict[Literal["trials.sqlite"], Hash] = Field(default_factory=dict)
    claims: Annotated[list[dict[str, Any]], FailFast()]
    written: Short


class Sealed(_Signed):
    """A receipt.json, whole."""

    schema_: Literal["locus-receipt/1", "locus-receipt/2"] = Field(alias="schema")
    body: Body
    sha256: Hash
    id: str = Field(pattern="^[A-Z2-7]{26}$")
    views: Views

    @property
    def signed_by(self) -> str | None:
        """The public key that signed it, or None."""
        return self.signature.public_key if self.signature else None

    @property
    def drawn_by(self) -> str | None:
        """The public key that signed page and figures, or None."""
        return self.views.signature.public_key if self.views.signature else None


def parse(content: dict[str, Any]) -> Sealed:
    """The parts of a parsed receipt, each of its kind.

    Raises:
        VerificationError: naming the first that is missing, added or of another kind.
    """
    schema = content.get("schema")
    if schema not in SCHEMAS:
        known = " or ".join(SCHEMAS)
        raise VerificationError(f"the receipt's schema is {str(schema)[:80]!r}, not {known}; a newer locus may know it")
    try:
        return Sealed.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise VerificationError(f"the receipt is not written as locus writes it: {where[:200]}: {first['msg']}") from error


def check(raw: bytes, content: dict[str, Any]) -> Sealed:
    """See that a receipt holds in itself.

    Args:
        raw: the file's bytes.
        content: what they say.

    Raises:
        VerificationError: with the first thing that does not hold.
    """
    sealed = parse(content)
    try:
        message = rfc8785.dumps(content["body"])
    except rfc8785.CanonicalizationError as error:
        raise VerificationError(f"the receipt's body is not canonical JSON: {error}") from error
    digest = hashlib.sha256(message)
    if sealed.sha256 != digest.hexdigest():
        raise VerificationError(f"the receipt's body hashes to {digest.hexdigest()}, not to {sealed.sha256}")
    if sealed.id != (named := identity(digest.digest())):
        raise VerificationError(f"the receipt's id is {sealed.id}, its hash says {named}")
    if sealed.signature is not None and not keys.holds(message, sealed.signature.model_dump()):
        raise VerificationError("the receipt's signature is not of this receipt, or not by the key it names")
    drawn = sealed.views.signature
    if drawn is not None and not keys.holds(views_message(sealed.id, sealed.views.files), drawn.model_dump()):
        raise VerificationError("the signature of page and figures is not of them, or not by the key it names")
    if raw != text(content).encode():
        raise VerificationError("the receipt is not written as locus writes it: its bytes are others than its parts give")
    if (sealed.body.schema_ or FIRST_SCHEMA) != sealed.schema_:
        signed = f"whose body is that of a {sealed.body.schema_ or FIRST_SCHEMA}"
        raise VerificationError(f"the receipt calls itself a {sealed.schema_}, {signed}")
    reasons = [part.unsigned_because for part in (sealed, sealed.views) if part.signature is None]
    if sealed.schema_ != FIRST_SCHEMA and (other := set(reasons) - set(REASONS)):
        raise VerificationError(f"the receipt gives a reason for being unsigned that locus does not give: {min(other)[:80]!r}")
    return sealed


def read(path: Path, inside: Path | None = None) -> tuple[bytes, dict[str, Any]]:
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
