"""Where an edit may act: a Site is one attention head's slice of its output projection's input.

A Location is a set of Sites. Both are plain values: no torch, no model. Written `layer.head`, zero-based.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from locus.errors import UserError


@dataclass(frozen=True, order=True)
class Site:
    """One attention head, `layer.head`, both zero-based; heads are *query* heads, also under GQA."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class Location:
    """A set of Sites, kept sorted and without repeats."""

    sites: tuple[Site, ...]

    @classmethod
    def of(cls, sites: Iterable[Site]) -> "Location":
        """Build from any iterable of Sites, in any order."""
        return cls(tuple(sorted(set(sites))))

    @classmethod
    def parse(cls, text: str | Sequence[str]) -> "Location":
        """Read `"12.3,14.0"`, or a list of such strings.

        Raises:
            UserError: if a part is not `layer.head`, or a head is named twice.
        """
        names = [name.strip() for name in text.split(",")] if isinstance(text, str) else [str(name) for name in text]
        wrong = [name for name in names if not re.fullmatch(r"[0-9]{1,5}\.[0-9]{1,5}", name)]
        if wrong or not names:
            raise UserError(
                "heads as layer.head, zero-based and separated by commas, such as 12.3,14.0",
                ", ".join(repr(name[:40]) for name in wrong[:5]) or "nothing",
                "Write each head as two whole numbers with a full stop between them.",
            )
        sites = [Site(*map(int, name.split("."))) for name in names]
        repeated = sorted(str(site) for site, count in Counter(sites).items() if count > 1)
        if repeated:
            raise UserError("every head once", f"{', '.join(repeated)} more than once", "Remove the repeats.")
        return cls.of(sites)

    @classmethod
    def everything(cls, heads: Sequence[int]) -> "Location":
        """All heads of a model that has so many in each layer."""
        return cls(tuple(Site(layer, head) for layer, count in enumerate(heads) for head in range(count)))

    def __len__(self) -> int:
        return len(self.sites)

    def __str__(self) -> str:
        return ",".join(map(str, self.sites))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it touches, in order."""
        return tuple(sorted({site.layer for site in self.sites}))

    @property
    def names(self) -> list[str]:
        """The sites as `layer.head` strings."""
        return [str(site) for site in self.sites]

    def heads(self, layer: int) -> tuple[int, ...]:
        """Its heads in one layer, in order."""
        return tuple(site.head for site in self.sites if site.layer == layer)

    def complement(self, heads: Sequence[int]) -> "Location":
        """All heads of a model, with so many in each layer, that are not in this Location."""
        own = set(self.sites)
        return Location(tuple(site for site in self.everything(heads).sites if site not in own))

    def check(self, heads: Sequence[int]) -> None:
        """Refuse heads that a model with so many in each layer does not have.

        Raises:
            UserError: naming every such head.
        """
        absent = [str(site) for site in self.sites if site.layer >= len(heads) or site.head >= heads[site.layer]]
        if absent:
            last = max((layer for layer, count in enumerate(heads) if count), default=0)
            counts = " or ".join(map(str, sorted(set(heads))))
            raise UserError(
                f"heads of a model with {len(heads)} layers and {counts} query heads a layer (0.0 to {last}.{heads[last] - 1})",
                ", ".join(absent),
                "Heads are written layer.head and counted from zero; use query heads, not key-value heads.",
            )
