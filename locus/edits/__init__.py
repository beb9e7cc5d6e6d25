"""One edit per file; all are affine changes of the output projection's input, so a bank can mix them."""

from locus.edits.ablate import ablate
from locus.edits.base import Edit, Terms, load_edit
from locus.edits.complement import complement
from locus.edits.full import full
from locus.edits.rank1 import Rank1
from locus.edits.shift import Directions, directions, shift

__all__ = [
    "Directions",
    "Edit",
    "Rank1",
    "Terms",
    "ablate",
    "complement",
    "directions",
    "full",
    "load_edit",
    "shift",
]
