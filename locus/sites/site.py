"""Where an edit may act: a Site of some kind in some layer, and a Location, a set of Sites of one kind.

Both are plain values: no torch, no model. What a kind is, and how its sites are written, stands in one file a kind (kind.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from locus.errors import UserError
from locus.sites import names


@dataclass(frozen=True, order=True)
class Site:
    """One place of a model, written as its kind writes it; layer and index are counted from zero.

    Attributes:
        kind: by its name in the registry.
        layer: of the model.
        index: among the layer's sites of the kind; 0 where there is one.
    """

    kind: str
    layer: int
    index: int = 0

    def __str__(self) -> str:
        return names.written(self.kind, [(self.layer, self.index)])[0]


@dataclass(frozen=True)
class Location:
    """A set of Sites of one kind, kept sorted and without repeats."""

    sites: tuple[Site, ...]

    @classmethod
    def of(cls, sites: Iterable[Site]) -> "Location":
        """Build from any iterable of Sites, in any order.

        Raises:
            UserError: if they are of several kinds.
        """
        several = set(sites)
        names.one_kind({site.kind for site in several})
        return cls(tuple(sorted(several, key=lambda site: (site.layer, site.index))))

    @classmethod
    def parse(cls, text: str | Sequence[str]) -> "Location":
        """Read names, separated by commas or in a list: `"12.3,14.0"`, `["mlp.7"]`.

        Raises:
            UserError: if a part names no site, sites are of several kinds, or one is named twice.
        """
        words = [word.strip() for word in text.split(",")] if isinstance(text, str) else [str(word) for word in text]
        kind, places = names.read(words)
        if len(set(places)) < len(places):
            seen: set[tuple[int, int]] = set()
            twice = [one for one in places if one in seen or seen.add(one)]  # type: ignore[func-returns-value]
            repeated = ", ".join(names.written(kind, sorted(set(twice)))[:5])
            raise UserError("every site once", f"{repeated} more than once", "Remove the repeats.")
        return cls(tuple(Site(kind, layer, index) for layer, index in sorted(places)))

    def __len__(self) -> int:
        return len(self.sites)

    def __str__(self) -> str:
        return ",".join(self.names)

    @property
    def kind(self) -> str:
        """Of its sites, by name; "" where it has none."""
        return self.sites[0].kind if self.sites else ""

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers it touches, in order."""
        return tuple(self._by_layer)

    @cached_property
    def _by_layer(self) -> dict[int, tuple[int, ...]]:
        layers: dict[int, list[int]] = {}
        for site in self.sites:
            layers.setdefault(site.layer, []).append(site.index)
        return {layer: tuple(found) for layer, found in layers.items()}

    @cached_property
    def names(self) -> list[str]:
        """Its sites as their kind writes them."""
        return names.written(self.kind, [(site.layer, site.index) for site in self.sites]) if self.sites else []

    def indices(self, layer: int) -> tuple[int, ...]:
        """Its sites in one layer, by their index, in order."""
        return self._by_layer.get(layer, ())
