"""A Claim: a Location, the scores that ranked it, and where it came from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locus.errors import UserError
from locus.sites import Location


@dataclass(frozen=True)
class Claim:
    """A conjecture that a behaviour lives at a Location.

    Attributes:
        name: what tables call it.
        location: the heads.
        origin: probe, given, null, patch ...
        scores: by "layer.head", what ranked the heads (for probes, validation accuracy as a fraction).
        about: how it was found, for plan and receipt.
    """

    name: str
    location: Location
    origin: str
    scores: dict[str, float] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `claims.given` reads it back."""
        return {
            "name": self.name,
            "origin": self.origin,
            "heads": self.location.names,
            "scores": self.scores,
            "about": self.about,
        }

    def check(self, fingerprint: str, n_layers: int, n_heads: int) -> None:
        """That it can be a claim about a model.

        Args:
            fingerprint: of the model.
            n_layers: of the model.
            n_heads: query heads a layer.

        Raises:
            UserError: if the model lacks a head, or the claim was found on other weights.
        """
        self.location.check(n_layers, n_heads)
        found_on = self.about.get("model_fingerprint")
        if found_on not in (None, fingerprint):
            raise UserError(
                f"the model on which {self.name!r} was found (weights {found_on[:12]}, in the same dtype)",
                f"weights {fingerprint[:12]}",
                f"Find it anew on this model; or, if it is meant to carry over, name the heads: "
                f"--claim {','.join(self.location.names)}.",
            )

    def save(self, path: Path) -> None:
        """Write as a claim file for `--claim`."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
