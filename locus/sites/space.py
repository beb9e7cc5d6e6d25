"""The places of one kind in one model: all of them, all but some, and random ones to hold a claim against.

Random Locations are the claim's null: as many sites, drawn uniformly over the model, or as many in each layer as the claim has
there. Where fewer places exist than are asked for, all of them are the null, and a rank among them is exact.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import comb, prod
from typing import Any, Literal, cast

import numpy as np

from locus.errors import UserError
from locus.sites import known
from locus.sites.kind import SiteKind, default, kind_of
from locus.sites.names import examples, one_kind
from locus.sites.site import Location, Site

Match = Literal["uniform", "layer", "covariance", "shuffled", "isotropic"]


@dataclass(frozen=True)
class SiteSpace:
    """The places of a kind in a model.

    Attributes:
        kind: of the sites.
        counts: how many each layer has.
        sizes: of the model (`models.layout.Layout`); None before it is loaded, when slices cannot be asked for.
        over: layers of the claims, where these are the only ones that any edit may touch; all by default.
    """

    kind: SiteKind
    counts: tuple[int, ...]
    sizes: Any = None
    over: tuple[int, ...] = ()

    @classmethod
    def of(cls, kind: SiteKind | str, sizes: Any) -> "SiteSpace":
        """Of a model that has been looked at.

        Raises:
            UserError: if it has no such sites, saying why.
        """
        own = kind_of(kind) if isinstance(kind, str) else kind
        counts = own.counts(sizes)
        if not any(counts):
            why = sizes.absent.get(own.point, "none was seen")
            raise UserError(f"a model in which {own.nouns} can be edited", f"one in which they cannot: {why}", "Claim others.")
        return cls(own, tuple(counts), sizes)

    @cached_property
    def everywhere(self) -> Location:
        """All sites: where the ceiling may write; of directions, the stream entering the claims' layers."""
        name = self.kind.name
        if self.kind.around:
            return Location(tuple(Site(self.kind.around, layer) for layer in self.over or self.layers))
        return Location(tuple(Site(name, layer, index) for layer, count in enumerate(self.counts) for index in range(count)))

    @property
    def probed(self) -> tuple[Site, ...]:
        """All sites that a probe looks at; of directions, the difference of class means at every layer."""
        if self.kind.around:
            return tuple(Site(self.kind.name, layer, known.MEANS) for layer in self.layers)
        return self.everywhere.sites

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have sites."""
        return tuple(layer for layer, count in enumerate(self.counts) if count)

    def rest(self, location: Location) -> Location:
        """Everywhere but there."""
        if self.kind.around:
            return Location(tuple(Site(self.kind.around, site.layer, site.index) for site in location.sites))
        own = set(location.sites)
        return Location(tuple(site for site in self.everywhere.sites if site not in own))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Width of a site's slice in each layer; 0 where a layer has none."""
        assert self.sizes is not None, "slices are those of a model that was looked at"
        sizes, own = self.sizes, self.kind
        whole = [range(sizes.width(own.point, layer)) for layer in range(sizes.n_layers)]
        return tuple(len(whole[layer][own.columns(sizes, layer, 0)]) if self.counts[layer] else 0 for layer in range(len(whole)))

    def columns(self, site: Site) -> slice:
        """Of the vector at the kind's point in the site's layer, what is the site's."""
        assert self.sizes is not None, "slices are those of a model that was looked at"
        return self.kind.columns(self.sizes, site.layer, site.index)

    def check(self, location: Location) -> None:
        """Refuse sites that the model does not have.

        Raises:
            UserError: naming the first few.
        """
        counts, n_layers = self.counts, len(self.counts)
        free = self.kind.written != "slices"  # of any index
        absent = [site for site in location.sites if site.layer >= n_layers or (not free and site.index >= counts[site.layer])]
        absent += [site for site in location.sites if free and site.layer < n_layers and not counts[site.layer]]
        if location.kind not in ("", self.kind.name):
            absent = list(location.sites)
        if absent and free:
            received = ", ".join(sorted({f"layer {site.layer}" for site in absent}))
            raise UserError(
                f"{self.kind.nouns} of a model with {n_layers} layers, 0 to {n_layers - 1}", received, "Mend the layer."
            )
        if absent:
            last, each = self.layers[-1], " or ".join(f"{count:,}" for count in sorted(set(counts)))
            ends = [Site(self.kind.name, layer, index) for layer, index in ((self.layers[0], 0), (last, counts[last] - 1))]
            listed = ", ".join(map(str, absent[:5])) + (f" and {len(absent) - 5:,} more" if len(absent) > 5 else "")
            raise UserError(
                f"{self.kind.nouns} of a model with {n_layers} layers and {each} a layer ({ends[0]} to {ends[1]})",
                listed,
                f"They are written {examples(self.kind)}, and counted from zero.",
            )

    @property
    def matches(self) -> tuple[Match, ...]:
        """How random Locations may be drawn: by layer only where layers have several sites."""
        if self.kind.nulls:
            return cast(tuple[Match, ...], self.kind.nulls)
        return ("uniform", "layer") if max(self.counts) > 1 else ("uniform",)

    def capacity(self, location: Location, match: Match = "uniform") -> int:
        """How many Locations other than the claim itself can be drawn."""
        if self.kind.nulls:
            return known.NUMBERS
        if match == "uniform":
            return comb(sum(self.counts), len(location)) - 1
        return prod(comb(self.counts[layer], len(location.indices(layer))) for layer in location.layers) - 1

    def draw(self, location: Location, count: int, seed: int, match: Match = "uniform") -> list[Location]:
        """Random Locations of a claim's size, none repeated, none equal to it; the first k do not depend on `count`.

        Args:
            location: the claim's.
            count: how many; all that there are where there are fewer.
            seed: of the draws.
            match: what they share with the claim besides the size.
        """
        count, sites, kind = min(count, self.capacity(location, match)), self.everywhere.sites, self.kind.name
        if self.kind.nulls:
            numbered = (known.drawn(match, number) for number in range(count))
            return [Location(tuple(Site(kind, layer, index) for layer in location.layers)) for index in numbered]
        generator = np.random.default_rng([seed, len(location), 0 if match == "uniform" else 1])
        locations: dict[Location, None] = {}
        while len(locations) < count:
            if match == "uniform":
                picks = generator.choice(len(sites), size=len(location), replace=False)
                candidate = Location.of(sites[int(pick)] for pick in picks)
            else:
                candidate = Location.of(
                    Site(kind, layer, int(index))
                    for layer in location.layers
                    for index in generator.choice(self.counts[layer], size=len(location.indices(layer)), replace=False)
                )
            if candidate != location:
                locations.setdefault(candidate)
        return list(locations)

    def __str__(self) -> str:
        first, counts = self.counts[0], self.counts
        alike = f"{len(counts)} layers of {self.kind.counted(first)}"
        some = f"{self.kind.counted(sum(counts))} in {sum(map(bool, counts))} of {len(counts)} layers"
        return alike if len(set(counts)) == 1 else some


def space_of(locations: Sequence[Location], sizes: Any) -> SiteSpace:
    """The places that some Locations of one kind are among; of the first kind where there is no Location.

    Raises:
        UserError: if they are of several kinds, or of one that the model lacks; or of directions at different layers, whose
            ceilings differ.
    """
    space = SiteSpace.of(one_kind({location.kind for location in locations}) or default(), sizes)
    if not space.kind.around:
        return space
    layers = sorted({location.layers for location in locations})
    if len(layers) > 1:
        listed = " and ".join(",".join(map(str, one)) for one in layers[:2])
        raise UserError(f"claims of {space.kind.nouns} at the same layers", f"layers {listed}", "Audit each by itself.")
    return replace(space, over=layers[0] if layers else ())


def holds(outer: set[Site] | frozenset[Site], inner: Collection[Site]) -> bool:
    """Whether a place contains another: its sites are among the place's, or the place is all of the stream that they are of."""
    if not inner or outer.issuperset(inner):
        return True
    around = kind_of(next(iter(inner)).kind).around
    return around != "" and all(Site(around, site.layer) in outer for site in inner)
