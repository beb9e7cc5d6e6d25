"""The receipt of a run, receipt.json: what was run, on what, by which rule, and what came out, hashed and signed.

Every part is known and none may be added, since what nobody looks at could be changed unseen. Receipts of the first edition
(locus-receipt/1) are read as they are.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from locus.records.base import Hash, JsonObject, Long, Many, Part, Short, at_most
from locus.records.findings import Standing
from locus.records.verdict import Seeds

ReceiptSchema = Literal["locus-receipt/1", "locus-receipt/2"]
FIRST_RECEIPT: ReceiptSchema = "locus-receipt/1"
RECEIPT_SCHEMA: ReceiptSchema = "locus-receipt/2"
RECEIPT_SCHEMAS = (FIRST_RECEIPT, RECEIPT_SCHEMA)
# What a receipt holds of a folder: nothing above it, nothing beside it, nothing hidden.
FILES = (
    r"(plan|verdict|labels)\.json",
    r"report\.html",
    r"cite\.[a-z]{1,8}",
    r"edits/[0-9a-f]{1,64}\.safetensors",
    r"figures/[^./\x00][^/\x00]{0,250}",
)
MOST_FILES, MOST_NAMES = 20_000, 1000  # that it names; entries of any other table
FileName = Annotated[str, Field(pattern=f"^({'|'.join(FILES)})$")]
Files = Annotated[dict[FileName, Hash], at_most(MOST_FILES)]  # each with its SHA-256


class Signature(Part):
    """A signature with the public key that checks it."""

    algorithm: Literal["ed25519"]
    """How it was made."""
    public_key: Hash
    """The key that checks it."""
    signature: str = Field(pattern="^[0-9a-f]{128}$")
    """The signature."""


class Signed(Part):
    """Something that is signed, or says why it is not."""

    signature: Signature | None
    """Null where nobody signed."""
    unsigned_because: Short
    """Why nobody did; empty where somebody did."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.signature is None) != bool(self.unsigned_because):
            raise ValueError("signed, and says why it is not; or unsigned without a reason")
        return self

    @property
    def signed_by(self) -> str | None:
        """The public key that signed it, or None."""
        return self.signature.public_key if self.signature else None


class Views(Signed):
    """What was drawn from the results, by whoever drew it."""

    files: Files
    """Page, figures and citations, each with its SHA-256."""


class PlanState(Part):
    """Which plan, and when it was fixed."""

    sha256: Hash
    """Of the plan."""
    rule_sha256: Hash
    """Of the rule."""
    fixed: Short | None
    """The plan's hash and the moment at which it was fixed, before the first result; null where the store does not say."""


class ModelState(Part):
    """Which model."""

    name: Short
    """Hub id, or the last name of a path."""
    quantised: bool
    """Whether its weights come from a quantised file."""
    sha256: Hash
    """Of what was run."""


class DatasetState(Part):
    """Which questions."""

    name: Short
    """What the behaviour is called."""
    licence: Short
    """Under which they may be used."""
    sha256: Hash
    """Of all questions and answers."""


class Code(Part):
    """Which code."""

    version: Short
    """Of locus."""
    commit: Short | None
    """Of a checkout; null where it was installed."""
    dirty: bool | None
    """Whether the package differs from that commit."""


class ClaimState(Part):
    """A claim, and how it stands."""

    name: Long
    """What tables call it."""
    origin: Short
    """probe, given, null, patch ..."""
    location: Many[Short]
    """The claimed heads, LAYER.HEAD."""
    read: Short
    """What the edits read."""
    sentence: Long
    """The four answers in one sentence."""
    works: Standing
    """Is the optimal edit at the claim as good as the optimal edit everywhere?"""
    special: Standing
    """Is it better than the optimal edits at random Locations of the same size?"""
    unique: Standing
    """Do only few random Locations do as well?"""
    necessary: Standing
    """Does the optimal edit everywhere but there fall short?"""


class Body(Part):
    """What the receipt states of a run."""

    schema_: ReceiptSchema | None = Field(None, alias="schema")
    """Of which edition the receipt is, where it is signed; receipts of the first edition do not say it here."""
    config: JsonObject
    """The settings, without the folders of the machine."""
    context: JsonObject
    """What can change a trial's numbers, as hashes."""
    model: ModelState
    """Which model."""
    dataset: DatasetState
    """Which questions."""
    plan: PlanState
    """Which plan."""
    code: Code
    """Which code; on the signer's word alone."""
    versions: Annotated[dict[Short, Short], at_most(MOST_NAMES)]
    """Of what computed the numbers."""
    device: Short
    """What the model was run on; on the signer's word alone."""
    seeds: Seeds
    """Of everything random."""
    unfinished: int
    """Trials that are neither done nor unnecessary."""
    artefacts: Files
    """Every file of the run, with its SHA-256."""
    tables: Annotated[dict[Short, Hash], at_most(MOST_NAMES)]
    """Every table of the store, with the SHA-256 of its rows."""
    database: Annotated[dict[Literal["trials.sqlite"], Hash], at_most(1)] = Field(default_factory=dict)
    """The store's bytes; receipts of before that was stated have the tables alone."""
    claims: Many[ClaimState]
    """How the claims stand."""
    written: Short
    """When; on the signer's word alone."""


class Receipt(Signed):
    """A receipt.json, whole."""

    schema_: ReceiptSchema = Field(alias="schema")
    """Of which edition it is."""
    body: Body
    """What it states."""
    sha256: Hash
    """Of the body as canonical JSON (RFC 8785)."""
    id: str = Field(pattern="^[A-Z2-7]{26}$")
    """The first 26 base32 characters of that hash."""
    views: Views
    """What was drawn from the results."""
