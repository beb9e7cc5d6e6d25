"""A Claim: a Location, the scores that ranked it, and where it came from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from locus.boundary import outputs
from locus.errors import UserError
from locus.sites.kind import kind_of
from locus.sites.site import Location
from locus.sites.space import SiteSpace


@dataclass(frozen=True)
class Claim:
    """A conjecture that a behaviour lives at a Location.

    Attributes:
        name: what tables call it.
        location: the sites, of one kind.
        origin: probe, given, null, patch ...
        scores: by site, what ranked the sites (for probes, validation accuracy as a fraction).
        about: how it was found, for plan and receipt; a claim from a mask has its `shape`, layers and heads.
    """

    name: str
    location: Location
    origin: str
    scores: dict[str, float] = field(default_factory=dict, repr=False)
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `claims.given` reads it back."""
        return {
            "name": self.name,
            "origin": self.origin,
            kind_of(self.location.kind).filed: self.location.names,
            "scores": self.scores,
            "about": self.about,
        }

    def check(self, fingerprint: str, space: SiteSpace, model: str = "", carried: bool = False) -> None:
        """That it can be a claim about a model.

        Args:
            fingerprint: of the model.
            space: the places of its kind in the model.
            model: its name, which a circuit's own is held against.
            carried: whether it is put to another model than its own on purpose, as to a twin of it.

        Raises:
            UserError: as `fits`, or if the claim was found on other weights, or in a model of another name.
        """
        self.fits(space)
        if carried:
            return
        names = [str(name).casefold().rstrip("/").rpartition("/")[2] for name in (self.about.get("circuit_of", ""), model)]
        if all(names) and names[0] not in names[1] and names[1] not in names[0]:
            raise UserError(
                f"a circuit of the model that is audited, {model!r}",
                f"{self.name!r}, whose cfg says that it is of {self.about['circuit_of']!r}",
                f"If it is meant to carry over, name the heads: --claim {','.join(self.location.names)}.",
            )
        found_on = self.about.get("model_fingerprint")
        if found_on not in (None, fingerprint):
            raise UserError(
                f"the model on which {self.name!r} was found (weights {found_on[:12]}, in the same dtype)",
                f"weights {fingerprint[:12]}",
                f"Find it anew on this model; or, if it is meant to carry over, name the heads: "
                f"--claim {','.join(self.location.names)}.",
            )

    def fits(self, space: SiteSpace) -> None:
        """That its sites are among the places of a model.

        Raises:
            UserError: if the model lacks one, or the claim is a mask, or a circuit, of another shape.
        """
        space.check(self.location)
        n_layers, n_heads = len(space.counts), max(space.counts)
        stated, sizes = self.about.get("circuit_sizes", {}), {"n_layers": n_layers, "n_heads": n_heads}
        if other := [f"{name} = {size}" for name, size in stated.items() if size != sizes.get(name)]:
            raise UserError(
                f"a circuit of a model with {n_layers} layers and {n_heads} query heads a layer",
                f"{self.name!r}, whose cfg says {', '.join(other)}",
                f"If it is meant to carry over, name the heads: --claim {','.join(self.location.names)}.",
            )
        if (shape := self.about.get("shape")) not in (None, [n_layers, n_heads]):
            raise UserError(
                f"a mask of the model's own shape, {n_layers} layers by {n_heads} query heads",
                f"{self.name!r} of {shape[0]} by {shape[1]}",
                "A mask names every head of the model it is about; give pairs or names for any other.",
            )

    def save(self, path: Path) -> None:
        """Write as a claim file for `--claim`.

        Raises:
            UserError: if it cannot be written.
        """
        outputs.write_text(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", "--save")


def named_apart(claims: Sequence[Claim]) -> list[Claim]:
    """Claims of which no two have one name, by which their trials are found: a second "given" is "given-2"."""
    apart: dict[str, Claim] = {}
    for claim in claims:
        names = chain([claim.name], (f"{claim.name}-{number}" for number in count(2)))
        name = next(name for name in names if name not in apart)
        apart[name] = replace(claim, name=name)
    return list(apart.values())
