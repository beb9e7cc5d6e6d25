"""What a caller has open already, so that an audit loads none of it by name: a model, questions, claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from locus.behaviours.items import Dataset
from locus.claims.claim import Claim
from locus.models.model import Model


@dataclass(frozen=True)
class Opened:
    """Open parts of an audit; the settings name them all the same, those in memory alone as `memory:NAME`.

    Attributes:
        model: the model, or None to load the one that the settings name.
        dataset: the questions, or None to load them.
        claims: claims by their source in the settings; others are made from it.
        also: other behaviours on which edits are scored, by their source in the settings; those that are not there are loaded.
    """

    model: Model | None = None
    dataset: Dataset | None = None
    claims: Mapping[str, Claim] = field(default_factory=dict)
    also: Mapping[str, Dataset] = field(default_factory=dict)


NOTHING = Opened()
