"""A Claim: a Location, the scores that ranked it, and where it came from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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

    def save(self, path: Path) -> None:
        """Write as a claim file for `--claim`."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
