"""Planted models by name, so that they go where any model's name goes.

A name is planted:KIND:SEED (planted:KIND has seed 0), or planted:KIND:SEED:shuffled for the shuffled-label twin; the size is the
compact one. Graded kinds are named by the share that the claimed head carries, as in planted:graded-60:SEED, and those of other
kinds of sites by the site and the shape, as in planted:mlp-decoy:SEED.
"""

from functools import lru_cache
from typing import Any

from locus.behaviours.items import Dataset
from locus.errors import UserError
from locus.models.model import Model
from locus.models.planted.build import Planted, build
from locus.models.planted.graded import GRADED, percent_of
from locus.models.planted.kinds import COMPACT, KINDS
from locus.models.planted.other_sites import build_sited
from locus.models.planted.sited import SITED


def fields_of(name: str) -> tuple[str, int, bool]:
    """The kind, the seed, and whether labels are shuffled, of a planted model's name; nothing is built.

    Raises:
        UserError: if the name is not planted:KIND:SEED or planted:KIND:SEED:shuffled.
    """
    fields = f"{name}:0".split(":") if name.count(":") == 1 else name.split(":")
    twin = fields[3:] == ["shuffled"]
    known = len(fields) > 1 and (fields[1] in (*KINDS, *SITED) or percent_of(fields[1]) is not None)
    if fields[0] != "planted" or not (len(fields) == 3 or twin) or not known or not _is_seed(fields[2]):
        raise UserError(
            "planted:KIND:SEED or planted:KIND:SEED:shuffled, with a whole number of at most 15 digits for the seed",
            repr(name[:80]),
            f"The kinds are {', '.join(KINDS)}, graded-00 to graded-100, and {', '.join(SITED)}.",
        )
    return fields[1], int(fields[2]), twin


@lru_cache(maxsize=4)
def planted_named(name: str) -> Planted:
    """Build the planted model of a name, in the compact size.

    Raises:
        UserError: as `fields_of`.
    """
    kind, seed, twin = fields_of(name)
    if kind in SITED:
        return build_sited(kind, seed, shuffled=twin)
    return build(kind, seed, shuffled=twin, **(COMPACT if percent_of(kind) is None else GRADED))


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15


def load_named(name: str, device: str = "cpu") -> Model:
    """The model of a name, ready for the ordinary path; its questions are `planted_named(name).dataset`.

    Raises:
        UserError: if the name is not that of a planted model.
    """
    planted = planted_named(name)
    hf: Any = planted.model
    return Model(hf.to(device), planted.tokenizer, name)


def open_behaviour(name: str) -> Dataset:
    """The questions of a planted model, by its name."""
    return planted_named(name).dataset
