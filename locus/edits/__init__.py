"""One edit per file; all are affine changes of the vector at one point of the model, so a bank can mix them."""

from locus.edits.ablate import ablate
from locus.edits.base import Edit, Terms, Trainable, load_edit
from locus.edits.complement import complement
from locus.edits.full import full
from locus.edits.kind import EditKind, Place, kind
from locus.edits.rank1 import Rank1
from locus.edits.shift import Directions, directions, shift

__all__ = [
    "Directions",
    "Edit",
    "EditKind",
    "Place",
    "Rank1",
    "Terms",
    "Trainable",
    "ablate",
    "complement",
    "directions",
    "full",
    "kind",
    "load_edit",
    "shift",
]
