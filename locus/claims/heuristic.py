"""What a heuristic is: a function that names sites from what may be looked at, and gives a Claim.

Another package's comes through the entry points `locus.claims`, a script's through `registry.register`.
Test questions are not among what it is given: a claim that was chosen by them would be judged by what it has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from locus import registry
from locus.behaviours.prompts import PromptFormat
from locus.claims.claim import Claim
from locus.claims.probe import Features
from locus.errors import UserError
from locus.models.model import Model
from locus.sites.space import SiteSpace


@dataclass(frozen=True)
class Evidence:
    """What a heuristic may look at.

    Attributes:
        model: the unedited model.
        prompt: how questions are put.
        train, validation: the questions of these parts, read by the model: `items`, `trie`, and `base`, its pass over them.
        features, held_out: what is at every site, of the labelled answers to training and to validation questions.
        directions: class-mean differences of it, with their spread (`edits.Directions`).
        space: the places that a claim may name.
        size: sites that the claim is to name.
        seed: of the audit.
        part: what stands behind the heuristic's name and a colon, as the 2 of random:2.
    """

    model: Model
    prompt: PromptFormat
    train: Any
    validation: Any
    features: Features
    held_out: Features
    directions: Any
    space: SiteSpace
    size: int
    seed: int
    part: str = ""


Heuristic = Callable[[Evidence], Claim]


def find(name: str, evidence: Evidence) -> Claim:
    """The claim of a heuristic, under its name.

    Raises:
        UserError: if there is none of the name, suggesting the nearest, or what it gives is no claim.
    """
    made = registry.get("claims", name)(replace(evidence, part=name.partition(":")[2]))
    if not isinstance(made, Claim) or not made.location.sites:
        raise UserError(f"a locus.claims.Claim of one site or more from {name!r}", f"{made!r:.80}", "Mend the heuristic.")
    return replace(made, name=name)
